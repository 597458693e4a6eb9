"""The critic's verdicts: how often it approves, and how right it is by the hidden ground truth.

Source: SELF (Lu et al. 2023, arXiv 2310.00533).
"""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from pipeline.errors import StageError
from pipeline.rows import Row

MIN_VERDICTS = 20  # with fewer, approving all of them may be chance
MIN_WRONG, MIN_FOUND = (
    5,
    0.25,
)  # a critic that finds a smaller share, of at least so many, finds them by chance
PROBE = 2000  # verdicts held against the truth

IsRight = Callable[[Row, str], bool | None]  # is a text a right answer to the row's question? None: unknown


def base_rate(
    max_positive: float, is_right: IsRight, kept: Iterable[Row], dropped: Iterable[tuple[str, Row]]
) -> dict[str, Any]:
    """Return how often the critic approves, and mean answer lengths, for critique's manifest.

    Rows have `initial_verdict` and, in phase 2, `approved`, the verdict on the refined answer (None:
    unparsable). `judged` and `positive` count the deciding verdicts: `approved` where there is one, else
    `initial_verdict`. When more than `max_positive` of phase 2's are positive, a warning is added, or
    StageError raised if the truth shows that wrong answers are not found.
    """
    n: Counter[str] = Counter()
    probe: list[Row] = []
    for row in kept:
        payload = row.payload
        verdict = payload.get("approved", payload["initial_verdict"])
        n["rows"] += 1
        n["initial_positive"] += payload["initial_verdict"]
        n["initial_tokens"] += payload["initial_tokens"]
        n["refined_tokens"] += payload["completion_tokens"]
        n["refined_verdicts"] += "approved" in payload
        n["positive"] += bool(verdict)
        n["unparsable"] += verdict is None
        if payload.get("approved") is not None and len(probe) < PROBE:
            probe.append(row)
    rows, judged, positive = n["rows"], n["rows"] - n["unparsable"], n["positive"]
    unparsable = n["unparsable"] + sum(reason == "unparsable_feedback" for reason, _ in dropped)
    warning = ""
    if probe and judged >= MIN_VERDICTS and positive / judged > max_positive:
        approved = f"the critic approved {_of(positive, judged, 'answers')}"
        warning = _approves_too_much(approved, max_positive, is_right, probe)
    before, after = share(n["initial_tokens"], rows), share(n["refined_tokens"], rows)
    refined = f"{_of(positive, judged, 'refined answers')} and " if n["refined_verdicts"] else ""
    return {
        "judged": judged,
        "positive": positive,
        "base_rate": share(positive, judged),
        "unparsable": unparsable,
        "initial_judged": rows,
        "initial_positive": n["initial_positive"],
        "initial_base_rate": share(n["initial_positive"], rows),
        "initial_mean_tokens": before,
        "refined_mean_tokens": after,
        **({"warning": warning} if warning else {}),
        "note": f"the critic approved {refined}{_of(n['initial_positive'], rows, 'first answers')}; "
        f"{unparsable} verdicts could not be parsed; mean tokens {before or 0:.1f} before refinement, "
        f"{after or 0:.1f} after{warning and f'. Warning: {warning}'}",
    }


def _approves_too_much(approved: str, max_positive: float, is_right: IsRight, judged: Iterable[Row]) -> str:
    """Return a warning, or raise StageError if the truth shows that wrong answers are not found."""
    wrong = [row for row in judged if is_right(row, row.payload["text"]) is False]
    found = sum(not row.payload["approved"] for row in wrong)
    by_truth = f"by the ground truth it found {_of(found, len(wrong), 'wrong ones')}"
    if len(wrong) < MIN_WRONG or found >= MIN_FOUND * len(wrong):
        why = by_truth if wrong else "no answer is known to be wrong"
        return f"{approved}, more than method.max_positive = {max_positive:.0%}; {why}"
    raise StageError(
        f"{approved}, more than method.max_positive = {max_positive:.0%} allows, and {by_truth}. "
        "Such a critic filters nothing, and the next model would learn whatever this one writes. "
        "Read what it wrote (selfloop inspect --stage critique), then branch from the previous round "
        "(selfloop branch) with more or better meta-skill data (method.meta_rounds, questions_per_round, "
        "method.annotator), more training on it (train), or a higher method.max_positive, which lets the "
        "run go on."
    )


def quality(is_right: IsRight, kept: Iterable[Row], dropped: Iterable[tuple[str, Row]]) -> dict[str, Any]:
    """Return precision and recall of the filter, and the accuracy of verdicts on first answers.

    Computed from the ground truth once every row is decided, so that no decision depends on it. Rows whose
    truth is unknown are left out.
    """
    n = Counter(dict.fromkeys(("kept", "right", "kept_right", "initial_right", "mended", "spoilt"), 0))
    rows = unknown = agreed = wrong_found = 0
    for row, is_kept in chain(((row, True) for row in kept), ((row, False) for _, row in dropped)):
        right, right_before = is_right(row, row.payload["text"]), is_right(row, row.payload["initial"])
        if right is None or right_before is None:
            unknown += 1
            continue
        approved = row.payload["initial_verdict"]
        rows += 1
        agreed += approved == right_before
        wrong_found += not approved and not right_before
        n["kept"] += is_kept
        n["right"] += right
        n["kept_right"] += is_kept and right
        n["initial_right"] += right_before
        n["mended"] += right and not right_before
        n["spoilt"] += right_before and not right
    wrong = rows - n["initial_right"]
    note = "no ground truth to measure the filter by"
    if rows:
        note = (
            f"by the hidden ground truth of {rows} answers, "
            f"{_of(n['kept_right'], n['kept'], 'kept answers')} are right (precision) and "
            f"{_of(n['kept_right'], n['right'], 'right answers')} were kept (recall); right before "
            f"refinement {_of(n['initial_right'], rows)}, after it {_of(n['right'], rows)} ({n['mended']} "
            f"fixed, {n['spoilt']} broken); the critic judged {_of(agreed, rows, 'first answers')} correctly "
            f"and caught {_of(wrong_found, wrong, 'wrong ones')}"
        )
    return {
        **n,
        "truth_known": rows,
        "truth_unknown": unknown,
        "precision": share(n["kept_right"], n["kept"]),
        "recall": share(n["kept_right"], n["right"]),
        "accuracy": share(n["right"], rows),
        "initial_accuracy": share(n["initial_right"], rows),
        "verdict_accuracy": share(agreed, rows),
        "initial_wrong": wrong,
        "initial_wrong_found": wrong_found,
        "wrong_found": share(wrong_found, wrong),
        "note": note,
    }


def share(part: int, whole: int) -> float | None:
    """Return part / whole, None for an empty whole."""
    return part / whole if whole else None


def _of(part: int, whole: int, what: str = "") -> str:
    return f"{part} of {whole} {what}".rstrip() + (f" ({part / whole:.1%})" if whole else "")
