"""Which verdicts the critic learns: not nearly all of them approving, or it learns to approve.

A row whose verdict is left out still gives its direct answer.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from pipeline.ids import unit_interval
from pipeline.payload import Key, declare
from pipeline.rows import Kept, Row
from pipeline.stage import DatasetStep

LEFT_OUT = "verdict_left_out"
declare(
    {
        LEFT_OUT: Key(
            "publish", "publish", "the row gives its direct answer alone, so that verdicts are balanced"
        )
    }
)

Teaches = Callable[[Row], bool]  # does a row give an example of feedback?


def balanced(share: float, seed: int, teaches: Teaches) -> DatasetStep:
    """Return a step that leaves approving verdicts out, by `seed` and row ids, until at most `share` of those
    that train the critic approve. Without any rejecting verdict none is left. Memory: the ids drawn.
    """
    return partial(_balanced, share, seed, teaches)


def _balanced(
    share: float, seed: int, teaches: Teaches, rows: Callable[[], Iterable[Row]]
) -> Iterator[tuple[Row, Kept | None]]:
    rejecting = sum(teaches(row) and not row.payload["initial_verdict"] for row in rows())
    allowed = int(rejecting * share / (1 - share) + 1e-9)
    draws = ((unit_interval(seed, "verdicts", row.id), row.id) for row in rows() if _approves(row, teaches))
    drawn = {row_id for _, row_id in heapq.nsmallest(allowed, draws)}
    for row in rows():
        surplus = _approves(row, teaches) and row.id not in drawn
        yield row, Kept([Row(row.id, {**row.payload, LEFT_OUT: True}, row.parents)]) if surplus else None


def _approves(row: Row, teaches: Teaches) -> bool:
    return teaches(row) and row.payload["initial_verdict"]


def note(rows: Iterable[Row], teaches: Teaches) -> str:
    """Return a sentence on the verdicts of published rows, "" if none trains the critic or is left out."""
    n = Counter[str]()
    for row in rows:
        n["left out"] += bool(row.payload.get(LEFT_OUT))
        if teaches(row):
            n["approving" if row.payload["initial_verdict"] else "rejecting"] += 1
    if not n.total():
        return ""
    return (
        f"Verdicts that train the critic: {n['approving']} approve, {n['rejecting']} reject; "
        f"{n['left out']} more that approve were left out (method.max_approving)"
    )
