"""Verifiers: is the answer of a row right? By the ground truth, by the task's own scorer, or by the vote of the other answers.

A verifier is a plain function from a payload to a Verdict. Sources: ReGenesis 1.4 (exact match by value; majority vote).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from pipeline.config import Recipe
from pipeline.errors import ConfigError, DataError
from pipeline.limited import CallError, OutOfBudgetError, call
from pipeline.methods import Stage
from pipeline.registry import resolve
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM
from stages import answers

MIN_VOTES = 2


class Verdict(NamedTuple):
    """`extracted` is the marked answer (None: none was found), `problem` why it cannot be right, `score` the scorer's, if any."""

    correct: bool
    extracted: str | None
    problem: str
    score: float | None


Scorer = Callable[[dict[str, Any]], Verdict]


def ground_truth(payload: dict[str, Any]) -> Verdict:
    """Compare the marked answer with the ground truth by value. Raises DataError when the task has no truth."""
    if payload.get("answer") is None:
        raise DataError(
            f"task {payload.get('task_id')!r} has no ground truth: verifier ground_truth needs an answer for every task. "
            "Name the column it is in (tasks.columns.answer), or use verifier: majority_vote or task_scorer."
        )
    extracted, problem = _extract(payload)
    if extracted is None:
        return Verdict(False, None, problem, None)
    return Verdict(
        answers.equal(extracted, payload["answer"], payload["answer_type"], payload.get("options")),
        extracted,
        "",
        None,
    )


def task_scorer(payload: dict[str, Any]) -> Verdict:
    """Let the task's own reasoning_gym data set score the marked answer; correct from a score of 1 on.

    The scorer runs within a budget of CPU time, for some compute what the model wrote. Problems beside those of the mark:
    scorer_out_of_time, scorer_error. Raises DataError for a task that did not come from reasoning_gym.
    """
    source, entry = payload.get("source") or {}, payload.get("entry")
    if source.get("source") != "reasoning_gym" or not source.get("dataset") or not entry:
        raise DataError(
            f"task {payload.get('task_id')!r} has no scorer of its own: verifier task_scorer works with tasks.source: reasoning_gym. "
            "Use verifier: ground_truth, or your own as 'module:function'."
        )
    extracted, problem = answers.extract(payload["text"], "text")
    if extracted is None:
        return Verdict(False, None, problem, None)
    if extracted.endswith(".") and not str(entry.get("answer")).endswith("."):
        extracted = extracted[:-1].rstrip()  # the end of a sentence; many scorers compare texts exactly
    try:
        task = {"task_id": payload.get("task_id"), "source": source, "entry": entry}
        score = call("stages.tasks.scoring:score_answer", task, extracted)
    except OutOfBudgetError:
        return Verdict(False, extracted, "scorer_out_of_time", None)
    except CallError as e:
        if e.kind == DataError.__name__:  # about the task, not about the answer
            raise DataError(e.detail) from e
        return Verdict(False, extracted, "scorer_error", None)
    return Verdict(score >= 1.0, extracted, "", score)


def scorer(recipe_verifier: str) -> Scorer:
    """Return the function that scores one payload, by the recipe's name for it or as 'module:function'.

    A majority vote is no judgement of one row: that name is registered as ground_truth, which is what evaluation needs.
    """
    return resolve("verifier", recipe_verifier)


def stage(recipe: Recipe) -> Stage:
    """Return the verify stage for `recipe.verifier`. Rows that pass carry the verdict in payload["verdict"].

    Drop reasons: wrong_answer or the verdict's problem; of a majority vote: minority, tie, too_few_votes or the problem.
    """
    if recipe.verifier == "majority_vote":
        return Stage(
            row=_vote,
            steps={"majority_vote": majority_vote},
            config={"verifier": recipe.verifier, "min_votes": MIN_VOTES},
        )
    return Stage(row=partial(_verify, scorer(recipe.verifier)), config={"verifier": recipe.verifier})


def majority_vote(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
    """Keep the answers that agree with the most frequent one of their question; the ground truth is never looked at.

    A question needs MIN_VOTES for that answer and no tie (ReGenesis 1.4). The verdict's score is the share of the votes.
    Two passes: the first counts keys, so that no answer text is held in memory.
    """
    votes: dict[str, Counter[str]] = {}
    for row in rows():
        votes.setdefault(row.payload["task_id"], Counter())[row.payload["vote"]["key"]] += 1
    for row in rows():
        counts, vote = votes[row.payload["task_id"]], row.payload["vote"]
        (winner, most), *others = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if most < MIN_VOTES:
            yield (
                row,
                Dropped(
                    "too_few_votes",
                    f"{most} for the most frequent answer, {MIN_VOTES} needed",
                    row.payload["text"],
                ),
            )
        elif others and others[0][1] == most:
            yield (
                row,
                Dropped("tie", f"{winner} and {others[0][0]} have {most} votes each", row.payload["text"]),
            )
        elif vote["key"] != winner:
            yield (
                row,
                Dropped(
                    "minority",
                    f"{vote['extracted']} has {counts[vote['key']]} votes, {winner} {most}",
                    row.payload["text"],
                ),
            )
        else:
            verdict = Verdict(True, vote["extracted"], "", most / counts.total())
            yield Row(row.id, {**row.payload, "verdict": verdict._asdict()}, row.parents), None


async def _verify(score: Scorer, row: Row, llm: LLM) -> Outcome:
    verdict = score(row.payload)
    if not isinstance(verdict, Verdict):
        raise ConfigError(
            f"a verifier returns a stages.steps.verifiers.Verdict; {getattr(score, '__name__', score)} returned {verdict!r}"
        )
    if verdict.correct:
        return Kept([row.child("verify", 0, verdict=verdict._asdict())])
    detail = f"extracted {verdict.extracted!r}, expected {row.payload.get('answer')!r}"
    return Dropped(verdict.problem or "wrong_answer", detail, row.payload["text"])


async def _vote(row: Row, llm: LLM) -> Outcome:
    """Put the row's vote into payload["vote"]; an answer that cannot be read has none."""
    extracted, problem = _extract(row.payload)
    if extracted is None:
        return Dropped(problem, raw=row.payload["text"])
    key = answers.normalised(extracted, row.payload["answer_type"], row.payload.get("options"))
    return Kept([row.child("verify", 0, vote={"extracted": extracted, "key": key})])


def _extract(payload: dict[str, Any]) -> answers.Extraction:
    return answers.extract(payload["text"], payload["answer_type"], payload.get("options"))
