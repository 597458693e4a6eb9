"""A critic's verdicts: how one is read, how often it says yes, and how far it can be trusted by a ground truth that it never sees.

Source: SELF (Lu et al. 2023, arXiv 2310.00533), 2.2 (a machine-readable last line), 2.3 and 2.6 (a critic that says yes to all).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from pipeline.engines.base import Completion
from pipeline.errors import StageError
from pipeline.rows import Row
from stages.steps.filters import CUT_SHORT

MIN_VERDICTS = 20  # with fewer, "always yes" may be chance

Known = Callable[
    [Row, str], bool | None
]  # is a text a right answer to the row's question? None: nobody knows


def read_verdict(feedback: Completion, words: tuple[str, str]) -> bool | None:
    """Return what the last line of a feedback says: True for the first of `words`, False for the second, None if it is neither.

    Feedback that was cut off has no last line.
    """
    lines = feedback.text.strip().splitlines()
    if feedback.finish_reason in CUT_SHORT or not lines:
        return None
    said = re.fullmatch(
        rf"[\W_]*verdict[\W_]+({'|'.join(map(re.escape, words))})[\W_]*", lines[-1], re.IGNORECASE
    )
    return said[1].casefold() == words[0].casefold() if said else None


def base_rate(max_positive: float, kept: Iterable[Row], dropped: Iterable[tuple[str, Row]]) -> dict[str, Any]:
    """Return how often the critic said yes, and how long answers are, over rows with `initial_verdict` and, in phase 2, `approved`.

    `positive` of `judged` are the verdicts that decide: those on refined answers, or on first ones where only those were judged.
    Raises StageError when more than `max_positive` of them are positive.
    """
    n: Counter[str] = Counter()
    for row in kept:
        judged = row.payload
        n["rows"] += 1
        n["initial_positive"] += judged["initial_verdict"]
        n["initial_tokens"] += judged["initial_tokens"]
        n["refined_tokens"] += judged["completion_tokens"]
        verdict = judged.get("approved") if "approved" in judged else judged["initial_verdict"]
        n["checked"] += "approved" in judged
        n["judged"] += verdict is not None
        n["positive"] += bool(verdict)
        n["unparsable"] += verdict is None
    n["unparsable"] += sum(reason == "unparsable_feedback" for reason, _ in dropped)
    rate = share(n["positive"], n["judged"])
    facts = {
        "judged": n["judged"],
        "positive": n["positive"],
        "base_rate": rate,
        "unparsable": n["unparsable"],
        "initial_judged": n["rows"],
        "initial_positive": n["initial_positive"],
        "initial_base_rate": share(n["initial_positive"], n["rows"]),
        "initial_mean_tokens": share(n["initial_tokens"], n["rows"]),
        "refined_mean_tokens": share(n["refined_tokens"], n["rows"]),
    }
    if n["judged"] >= MIN_VERDICTS and rate > max_positive:
        raise StageError(
            f"the critic said yes to {n['positive']} of {n['judged']} answers ({rate:.1%}), more than method.max_positive = {max_positive:.0%} allows: a critic "
            "that approves everything filters nothing, and the next model would learn whatever this one says. Look at what it wrote (selfloop inspect "
            "--stage critique), then go on from the round before with other settings (selfloop branch): more or better meta-skill data (method.meta_rounds, "
            "questions_per_round, method.annotator), more training on it (train), or a higher method.max_positive, if nearly all answers really are right."
        )
    first = f"{n['initial_positive']} of {n['rows']} first answers ({facts['initial_base_rate'] or 0:.1%})"
    refined = (
        f"{n['positive']} of {n['judged']} refined answers ({rate or 0:.1%}) and to " if n["checked"] else ""
    )
    lengths = f"; mean tokens {facts['initial_mean_tokens'] or 0:.1f} before refinement, {facts['refined_mean_tokens'] or 0:.1f} after"
    return {
        **facts,
        "note": f"the critic said yes to {refined}{first}; {n['unparsable']} verdicts could not be read{lengths}",
    }


def quality(known: Known, kept: Iterable[Row], dropped: Iterable[tuple[str, Row]]) -> dict[str, Any]:
    """Return precision and recall of the filter (kept against dropped), and of the verdicts on first answers, by the ground truth.

    Computed when all rows are decided upon, so that nothing depends on it. Rows whose truth nobody knows are left out.
    """
    n: Counter[str] = Counter()
    for row, is_kept in chain(((row, True) for row in kept), ((row, False) for _, row in dropped)):
        right, right_before = known(row, row.payload["text"]), known(row, row.payload["initial"])
        if right is None or right_before is None:
            n["unknown"] += 1
            continue
        yes = row.payload["initial_verdict"]
        n["rows"] += 1
        n["kept"] += is_kept
        n["right"] += right
        n["kept_right"] += is_kept and right
        n["initial_right"] += right_before
        n["initial_agreed"] += yes == right_before
        n["initial_wrong_found"] += not yes and not right_before
        n["mended"] += right and not right_before
        n["spoilt"] += right_before and not right
    wrong_before = n["rows"] - n["initial_right"]
    facts = {
        "truth_known": n["rows"],
        "truth_unknown": n["unknown"],
        "kept": n["kept"],
        "right": n["right"],
        "kept_right": n["kept_right"],
        "precision": share(n["kept_right"], n["kept"]),
        "recall": share(n["kept_right"], n["right"]),
        "accuracy": share(n["right"], n["rows"]),
        "initial_right": n["initial_right"],
        "initial_accuracy": share(n["initial_right"], n["rows"]),
        "mended": n["mended"],
        "spoilt": n["spoilt"],
        "verdict_accuracy": share(n["initial_agreed"], n["rows"]),
        "initial_wrong": wrong_before,
        "initial_wrong_found": n["initial_wrong_found"],
        "wrong_found": share(n["initial_wrong_found"], wrong_before),
    }
    if not n["rows"]:
        return {**facts, "note": "no ground truth to measure the filter by"}
    return {
        **facts,
        "note": f"by the hidden ground truth of {n['rows']} answers, {_of(n['kept_right'], n['kept'])} kept ones are right (precision), {_of(n['kept_right'], n['right'])} "
        f"right ones were kept (recall); right before refinement {_of(n['initial_right'], n['rows'])}, after it {_of(n['right'], n['rows'])} ({n['mended']} mended, "
        f"{n['spoilt']} spoilt); of first answers, the critic judged {_of(n['initial_agreed'], n['rows'])} rightly and found {_of(n['initial_wrong_found'], wrong_before)} wrong ones",
    }


def share(part: int, whole: int) -> float | None:
    """Return part / whole, None when there is nothing to have a share of."""
    return part / whole if whole else None


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole}" + (f" ({part / whole:.1%})" if whole else "")
