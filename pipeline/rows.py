"""The one record type, what a stage may answer for it, and how both look in Arrow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa

from pipeline.ids import row_id

# The payload is JSON text: one Arrow schema for every stage of every method and every round (ARCHITECTURE invariant 7).
ROW_SCHEMA = pa.schema([("id", pa.string()), ("parents", pa.list_(pa.string())), ("payload", pa.string())])
REJECT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("parents", pa.list_(pa.string())),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("raw", pa.string()),
        ("payload", pa.string()),
    ]
)


@dataclass(slots=True)
class Row:
    """A row: its id, the ids of the rows it was made from, and its content (JSON values only)."""

    id: str
    payload: dict[str, Any]
    parents: list[str] = field(default_factory=list)

    def child(self, stage: str, index: int | str, **changes: Any) -> "Row":
        """Return the `index`-th row made from this one by `stage`: its payload with `changes` laid over it."""
        return Row(row_id([self.id], stage, index), {**self.payload, **changes}, [self.id])


@dataclass(slots=True)
class Kept:
    """The row was processed; `rows` (possibly none) go on to the next stage."""

    rows: list[Row]


@dataclass(slots=True)
class Dropped:
    """The row was judged and not wanted. `reason` is a short snake_case name that is counted; `detail` is for people."""

    reason: str
    detail: str = ""
    raw: str = ""


@dataclass(slots=True)
class Failed:
    """The row could not be processed. `error` is a short name that is counted; `raw` is the reply that broke it."""

    error: str
    detail: str = ""
    raw: str = ""


Outcome = Kept | Dropped | Failed

UNANSWERED = (
    "unanswered"  # error of a row whose request was given up for now: sent again, it may well be answered
)


def rows_to_table(rows: Sequence[Row]) -> pa.Table:
    """Return a table in ROW_SCHEMA."""
    return pa.table(
        [[r.id for r in rows], [r.parents for r in rows], [orjson.dumps(r.payload).decode() for r in rows]],
        schema=ROW_SCHEMA,
    )


def table_to_rows(table: pa.Table | pa.RecordBatch) -> Iterable[Row]:
    """Yield the rows of a table in ROW_SCHEMA (or of rejects, whose reason is then left out)."""
    for i, p, d in zip(
        table["id"].to_pylist(), table["parents"].to_pylist(), table["payload"].to_pylist(), strict=True
    ):
        yield Row(i, orjson.loads(d), p)


def rejects_to_table(rejects: Sequence[tuple[Row, Dropped | Failed]]) -> pa.Table:
    """Return dropped or failed rows as a table in REJECT_SCHEMA."""
    return pa.table(
        [
            [r.id for r, _ in rejects],
            [r.parents for r, _ in rejects],
            [o.reason if isinstance(o, Dropped) else o.error for _, o in rejects],
            [o.detail for _, o in rejects],
            [o.raw for _, o in rejects],
            [orjson.dumps(r.payload).decode() for r, _ in rejects],
        ],
        schema=REJECT_SCHEMA,
    )
