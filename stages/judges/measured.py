"""How good a judge is: what it approves, whether it agrees with known answers and with itself, and whether it
goes by length. Computed once every row is judged, so that no decision depends on it.

Agreement, as for any classifier: precision (of the approved answers, how many are right), recall (of the
right ones, how many are approved), and AUC of the score, each with a 95% interval over questions. Order and
length are the known biases of language models as judges (Zheng et al. 2023, arXiv 2306.05685).
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from pipeline.ids import unit_interval
from pipeline.rows import Row
from pipeline.statistics import Interval, auc, proportion, rank_correlation, resampled, shown
from stages.judges.base import JUDGEMENTS
from stages.judges.warnings import warnings
from stages.steps import code_tests, verifiers

SAMPLE = 2000  # answers, drawn by seed, whose scores are held against truth and length
TOGETHER = "verdict"  # what several verifiers decide together, beside each of them


def summary(seed: int, kept: Iterable[Row], dropped: Iterable[tuple[str, Row]]) -> dict[str, Any]:
    """Return facts for the manifest of verify: a section per verifier that asks a model, warnings, a note."""
    counts: dict[str, Counter[str]] = {}
    drawn: list[tuple[float, str, Row, dict[str, Any]]] = []
    for row, said in _judged(kept, dropped):
        for label, what in said.items():
            count = counts.setdefault(label, Counter())
            count["asked"] += 1
            count["decided"] += "approved" in what
            count["approved"] += what.get("approved", False)
            count["unreadable"] += "reply" in what
            count.update(_comparisons(what))
        draw = (-unit_interval(seed, "measured", row.id), row.id, row, said)
        (heapq.heappush if len(drawn) < SAMPLE else heapq.heappushpop)(drawn, draw)
    rows = [(row, said, known(row.payload)) for _, _, row, said in sorted(drawn, key=lambda d: d[1])]
    facts = {label: _facts(label, count, rows, seed) for label, count in counts.items()}
    if len(facts) == 2 and TOGETHER in facts:  # one judge, whose verdicts nothing else changes
        together, alone = facts[TOGETHER], next(of for label, of in facts.items() if label != TOGETHER)
        if (together["asked"], together["approved"]) == (alone["asked"], alone["approved"]):
            del facts[TOGETHER]
    if not facts:
        return {"note": "no answer was judged by a model"}
    found = [w for label, of in facts.items() for w in warnings(label, of)]
    note = "; ".join(_note(label, of) for label, of in facts.items())
    return {
        "verifiers": facts,
        **({"warnings": found} if found else {}),
        "note": f"{note}{''.join(f'. Warning: {w}' for w in found)}",
    }


def known(payload: dict[str, Any]) -> bool | None:
    """Tell whether an answer is right by what its task knows: tests, a scorer, an answer. None: nothing."""
    try:
        if payload.get("tests"):
            return code_tests.code_tests(payload).correct
        if verifiers.has_scorer(payload):
            return verifiers.task_scorer(payload).correct
        return None if payload.get("answer") is None else verifiers.ground_truth(payload).correct
    except Exception:  # an answer that its task's own scorer cannot take, or no isolation for programs
        return None


def _judged(
    kept: Iterable[Row], dropped: Iterable[tuple[str, Row]]
) -> Iterator[tuple[Row, dict[str, dict[str, Any]]]]:
    """Yield the rows that a model judged, with what was said; with the verdict too, where that is not one
    model's alone.
    """
    for row, approved in chain(((row, True) for row in kept), ((row, False) for _, row in dropped)):
        said = row.payload.get(JUDGEMENTS) or {}
        if not said:
            continue
        if any("." in label or "approved" not in what for label, what in said.items()):
            score = row.payload["verdict"]["score"]
            said = {**said, TOGETHER: {"score": score, "approved": approved}}
        yield row, said


def _comparisons(said: dict[str, Any]) -> Counter[str]:
    """Count a pairwise judge's comparisons, and how often it preferred the answer that was shown first."""
    found: Counter[str] = Counter()
    for c in said.get("comparisons", ()):
        asked = bool(c["said"]) or c["outcome"] == "unreadable"
        found["comparisons"] += asked
        found["unread_comparisons"] += c["outcome"] == "unreadable"
        preferred = [choice for choice in c["said"] if choice != "tie"]
        found["preferences"] += len(preferred)
        found["first"] += preferred.count("A")
    return found


def _facts(
    label: str, n: Counter[str], rows: Sequence[tuple[Row, dict[str, Any], bool | None]], seed: int
) -> dict[str, Any]:
    asked = n["asked"]
    mine = [(row, said[label], right) for row, said, right in rows if label in said]
    scored = [(row, what["score"], right) for row, what, right in mine if what["score"] is not None]
    scores = np.array([score for _, score, _ in scored], dtype=float)
    tokens = np.array([_length(row) for row, _, _ in scored], dtype=float)
    questions = [row.payload["task_id"] for row, _, _ in scored]
    by_length = resampled(lambda i: rank_correlation(scores[i], tokens[i]), questions, seed=seed)
    facts: dict[str, Any] = {
        **{name: n[name] for name in ("asked", "approved", "unreadable")},
        "approved_share": n["approved"] / asked if n["decided"] else None,
        "unreadable_share": n["unreadable"] / asked,
        "distinct_scores": len(set(scores.tolist())),
        "length": _known(by_length),
    }
    if pairs := n["comparisons"]:
        agreed = [
            (row.payload["task_id"], float(c["outcome"] != "inconsistent"))
            for row, what, _ in mine
            for c in what.get("comparisons", ())
            if c["said"]
        ]
        facts["unreadable_share"] = n["unread_comparisons"] / pairs
        facts["order"] = {
            "comparisons": pairs,
            "unreadable": n["unread_comparisons"],
            "consistent": _known(_share(agreed, seed)),
            "first_shown": n["first"] / n["preferences"] if n["preferences"] else None,
        }
    truths = [(row, what, right) for row, what, right in mine if right is not None]
    if truths:
        facts["agreement"] = _agreement(truths, scores, scored, questions, seed)
    return facts


def _agreement(
    truths: Sequence[tuple[Row, dict[str, Any], bool]],
    scores: np.ndarray,
    scored: Sequence[tuple[Row, float, bool | None]],
    questions: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Return precision, recall and AUC; an unreadable judgement approves nothing."""
    of = [(row.payload["task_id"], what.get("approved", False), right) for row, what, right in truths]
    precision = [(question, float(right)) for question, approved, right in of if approved]
    decides = any("approved" in what for _, what, _ in truths)
    recall = [(question, float(approved)) for question, approved, right in of if right and decides]
    at = np.array([i for i, (_, _, right) in enumerate(scored) if right is not None], dtype=int)
    right = np.array([bool(scored[i][2]) for i in at], dtype=bool)
    sampled = [questions[i] for i in at]
    return {
        "n": len(of),
        "right": sum(right for *_, right in of),
        "precision": _known(_share(precision, seed)),
        "recall": _known(_share(recall, seed)),
        "auc": _known(resampled(lambda i: auc(scores[at][i], right[i]), sampled, seed=seed)),
    }


def _share(values: Sequence[tuple[str, float]], seed: int) -> Interval:
    """Return a share with its interval over questions, which are clusters if they have several answers."""
    questions = [question for question, _ in values]
    clusters = questions if len(set(questions)) < len(questions) else None
    return proportion([value for _, value in values], seed=seed, clusters=clusters)


def _known(interval: Interval) -> dict[str, float] | None:
    """Return an interval for JSON, None if there is no value."""
    if math.isnan(interval.mean):
        return None
    return {k: round(v, 4) for k, v in interval._asdict().items() if not math.isnan(v)}


def _length(row: Row) -> int:
    return row.payload.get("completion_tokens") or len(row.payload["text"])


def _note(label: str, f: dict[str, Any]) -> str:
    """Return one verifier's facts in a sentence."""
    share = f["approved_share"]
    said = [f"{label} scored {f['asked']} answers"]
    if share is not None:
        said = [f"{label} approved {f['approved']} of {f['asked']} answers ({share:.1%})"]
    if order := f.get("order"):
        first = "" if order["first_shown"] is None else f", first-shown preferred {order['first_shown']:.0%}"
        kept = f" {shown(order['consistent'])} consistent" if order["consistent"] else ""
        said.append(f"of {order['comparisons']} pairs asked in both orders{kept}{first}")
    if label != TOGETHER:
        said.append(f"{f['unreadable_share']:.1%} unreadable")
    if f["length"]:
        said.append(f"rank correlation of score and length {shown(f['length'], '.2f')}")
    if a := f.get("agreement"):
        parts = [f"{name} {shown(a[name])}" for name in ("precision", "recall") if a[name]]
        parts += [f"AUC {shown(a['auc'], '.2f')}"] if a["auc"] else []
        said.append(f"by {a['n']} known answers, {a['right']} of them right: {', '.join(parts) or 'nothing'}")
    return ", ".join(said)
