"""A stage's rows grouped by question, in bounded memory."""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator

from pipeline.ids import unit_interval
from pipeline.rows import Row
from stages.steps.groups import Share

ROWS_AT_ONCE = 50_000  # held in memory while grouping answers by question
ROWS_WRITTEN = 20  # at once, to each share


def by_question(rows: Callable[[], Iterable[Row]], count: int, at_once: int = ROWS_AT_ONCE) -> Iterator[Row]:
    """Yield `count` rows grouped by question (payload["task_id"]), in an order that depends on ids alone."""
    shares = max(1, math.ceil(count / at_once))
    if shares == 1:
        yield from _sorted(rows())
        return
    with tempfile.TemporaryDirectory(prefix="selfloop-questions-") as aside:
        dealt = [Share(f"{aside}/{i}", batch=ROWS_WRITTEN) for i in range(shares)]
        for row in rows():
            dealt[int(unit_interval(row.payload["task_id"]) * shares)].add(row)
        for share in dealt:
            yield from _sorted(share)


def _sorted(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.payload["task_id"], row.id))
