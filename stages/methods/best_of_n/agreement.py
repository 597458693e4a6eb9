"""How far each reward agrees with the truth, and with the length of answers: question by question, since a
reward has to tell the answers to one question apart.

Questions are the sample of all intervals (95%). A reward chooses the answer with its highest value; of equal
ones each has the same chance, so that its accuracy does not depend on how ties are settled.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from math import inf, isnan, nan
from statistics import fmean
from typing import Any, NamedTuple

from pipeline.ids import unit_interval
from pipeline.rows import Row
from pipeline.statistics import auc, bootstrap, rank_correlation, shown
from stages.methods.best_of_n.rewards import RANDOM

LONGEST, SHORTEST = "longest", "shortest"  # what choosing by length alone would be worth
ALIKE = 1.1  # ratio of two lengths that count as equal
MOST = 5_000  # questions that are measured: more would not narrow the intervals visibly


class Answer(NamedTuple):
    """An answer's rewards by name, its length in tokens, and whether it is right (None: unknown)."""

    rewards: Mapping[str, float]
    tokens: int
    right: bool | None


Question = Sequence[Answer]
Value = Callable[[Answer], float]


def summary(
    reward: str, resamples: int, kept: Iterable[Row], dropped: Iterable[tuple[str, Row]]
) -> dict[str, Any]:
    """Return what the manifest of verify says: `agreement` (see `agreement`) and a note for people."""
    by_question = _by_question(chain(kept, (row for _, row in dropped)))
    if not by_question:
        return {}
    drawn = sorted(by_question, key=lambda task: (unit_interval("agreement", task), task))[:MOST]
    found = agreement([by_question[task] for task in drawn], resamples)
    return {"agreement": {"chosen_by": reward, **found}, "note": _note(reward, found)}


def agreement(questions: Sequence[Question], resamples: int) -> dict[str, Any]:
    """Return counts, the accuracy of a random and of the best possible choice, and each reward's measures.

    Accuracy and AUC are of questions whose answers are known to be right or wrong. An answer without a reward
    ranks last by it.
    """
    known = [q for q in questions if all(a.right is not None for a in q)]
    names = set(chain.from_iterable(a.rewards for q in questions for a in q)) - {RANDOM}
    by: dict[str, Value] = {name: partial(_reward, name) for name in sorted(names)}
    by |= {LONGEST: lambda answer: answer.tokens, SHORTEST: lambda answer: -answer.tokens}
    rights = [[bool(a.right) for a in q] for q in known]
    return {
        "questions": len(questions),
        "known": len(known),
        "answers": sum(map(len, questions)),
        "tokens": round(fmean(a.tokens for q in questions for a in q), 2) if questions else None,
        "mean": _mean([fmean(r) for r in rights], resamples),
        "best_possible": _mean([float(any(r)) for r in rights], resamples),
        "rewards": {n: _measured(value, questions, known, resamples) for n, value in by.items()},
    }


def _measured(
    value: Value, questions: Sequence[Question], known: Sequence[Question], resamples: int
) -> dict[str, Any]:
    """Return how a reward chooses, how it tells right from wrong, and what it has to do with length."""
    chosen = [_chosen(value, q, lambda answer: float(bool(answer.right))) for q in known]
    means = [fmean(bool(a.right) for a in q) for q in known]
    tokens = [_chosen(value, q, lambda answer: answer.tokens) for q in questions]
    longer = [t - fmean(a.tokens for a in q) for t, q in zip(tokens, questions, strict=True)]
    ranks = [rank_correlation([value(a) for a in q], [a.tokens for a in q]) for q in questions]
    return {
        "chosen": _mean(chosen, resamples),
        "gain": _mean([c - m for c, m in zip(chosen, means, strict=True)], resamples),
        "auc": _mean([_auc(value, q) for q in known], resamples),
        "auc_at_equal_length": _mean([_auc_at_equal_length(value, q) for q in known], resamples),
        "tokens": round(fmean(tokens), 2) if tokens else None,
        "longer": _mean(longer, resamples),
        "length_correlation": _mean(ranks, resamples),
    }


def _reward(name: str, answer: Answer) -> float:
    return answer.rewards.get(name, -inf)


def _chosen(value: Value, question: Question, of: Value) -> float:
    """Return the mean of a property over the answers with the highest value."""
    highest = max(map(value, question))
    return fmean(of(answer) for answer in question if value(answer) == highest)


def _auc(value: Value, question: Question) -> float:
    return auc([value(a) for a in question], [bool(a.right) for a in question])


def _auc_at_equal_length(value: Value, question: Question) -> float:
    """Return the AUC over couples of a right and a wrong answer of about the same length."""
    right, wrong = ([a for a in question if a.right is which] for which in (True, False))
    couples = [
        auc([value(a), value(b)], [True, False])
        for a in right
        for b in wrong
        if max(a.tokens, b.tokens) <= ALIKE * min(a.tokens, b.tokens)
    ]
    return fmean(couples) if couples else nan


def _mean(values: Sequence[float], resamples: int) -> dict[str, Any] | None:
    """Return mean, interval and number of the values that exist; None if there are none."""
    there = [v for v in values if not isnan(v)]
    return {**bootstrap(there, resamples)._asdict(), "n": len(there)} if there else None


def _by_question(rows: Iterable[Row]) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    for payload in (row.payload for row in rows if "rewards" in row.payload):
        answer = Answer(payload["rewards"], payload["completion_tokens"], payload["truth"])
        found.setdefault(payload["task_id"], []).append(answer)
    return found


def _note(reward: str, found: Mapping[str, Any]) -> str:
    measured = found["rewards"].get(reward)
    if measured is None:
        return ""
    length = f"chosen answers have {measured['tokens']:g} tokens, all {found['tokens']:g}"
    if not measured["chosen"]:
        return f"{reward} chose among {found['answers']} answers; {length}"
    return (
        f"{reward} chose a right answer to {shown(measured['chosen'])} of {found['known']} questions, a "
        f"random choice would to {shown(found['mean'])}, the best possible to "
        f"{shown(found['best_possible'])}; AUC {shown(measured['auc'], '.2f')}; {length}"
    )
