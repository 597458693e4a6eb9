"""A stage's rows grouped by question, in bounded memory."""

import math
from collections.abc import Callable, Iterable, Iterator

from pipeline.ids import unit_interval
from pipeline.rows import Row

ROWS_AT_ONCE = 50_000  # held in memory while grouping answers by question


def by_question(rows: Callable[[], Iterable[Row]], count: int, at_once: int = ROWS_AT_ONCE) -> Iterator[Row]:
    """Yield `count` rows grouped by question (payload["task_id"]), in an order that depends on ids alone."""
    shares = max(1, math.ceil(count / at_once))
    for share in range(shares):
        group = [row for row in rows() if int(unit_interval(row.payload["task_id"]) * shares) == share]
        yield from sorted(group, key=lambda row: (row.payload["task_id"], row.id))
