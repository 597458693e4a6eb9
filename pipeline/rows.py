"""The one record type, what a stage may answer for it, and how both look in Arrow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa

from pipeline.ids import row_id
from pipeline.payload import Payload

# The payload is JSON text, so that every stage of every method and every round has the same Arrow schema.
ROW_SCHEMA = pa.schema([("id", pa.string()), ("parents", pa.list_(pa.string())), ("payload", pa.string())])
REJECT_SCHEMA = pa.schema(
    [("id", pa.string()), ("parents", pa.list_(pa.string()))]
    + [(name, pa.string()) for name in ("reason", "detail", "raw", "payload")]
)
UNANSWERED = "unanswered"  # error of a row whose request timed out or was turned away: worth sending again


@dataclass(slots=True)
class Row:
    """A row: its id, its content (JSON values; the keys are listed in pipeline/payload.py), and its parents'
    ids.
    """

    id: str
    payload: dict[str, Any]
    parents: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if type(self.payload) is not Payload:
            self.payload = Payload(self.payload)

    def child(self, stage: str, index: int | str, **changes: Any) -> "Row":
        """Return the `index`-th row that `stage` makes from this one: its payload, updated with `changes`."""
        return Row(row_id([self.id], stage, index), Payload(self.payload, **changes), [self.id])


@dataclass(slots=True)
class Kept:
    """The row was processed; `rows` (possibly none) continue to the next stage."""

    rows: list[Row]


@dataclass(slots=True)
class Dropped:
    """The row was judged and rejected.

    `reason` is a short snake_case name that is counted; `detail` is for people; `adds` goes into the payload
    that is stored with the row, such as the verdict.
    """

    reason: str
    detail: str = ""
    raw: str = ""
    adds: dict[str, Any] = field(default_factory=dict, compare=False)

    def payload(self, row: Row) -> dict[str, Any]:
        """Return the payload that is stored of a row dropped like this."""
        return {**row.payload, **self.adds}


@dataclass(slots=True)
class Failed:
    """The row could not be processed.

    `error` is a short name that is counted; `raw` is the reply that broke it.
    """

    error: str
    detail: str = ""
    raw: str = ""


Outcome = Kept | Dropped | Failed


def rows_to_table(rows: Sequence[Row]) -> pa.Table:
    """Return a table in ROW_SCHEMA."""
    columns = [
        [r.id for r in rows],
        [r.parents for r in rows],
        [orjson.dumps(r.payload).decode() for r in rows],
    ]
    return pa.table(columns, schema=ROW_SCHEMA)


def table_to_rows(table: pa.Table | pa.RecordBatch) -> Iterable[Row]:
    """Yield the rows of a table in ROW_SCHEMA, or in REJECT_SCHEMA without their reasons."""
    columns = (table[name].to_pylist() for name in ("id", "parents", "payload"))
    for id_, parents, payload in zip(*columns, strict=True):
        yield Row(id_, Payload(orjson.loads(payload)), parents)


def rejects_to_table(rejects: Sequence[tuple[Row, Dropped | Failed]]) -> pa.Table:
    """Return dropped or failed rows as a table in REJECT_SCHEMA."""
    rows, outcomes = [row for row, _ in rejects], [outcome for _, outcome in rejects]
    columns = [
        [row.id for row in rows],
        [row.parents for row in rows],
        [o.reason if isinstance(o, Dropped) else o.error for o in outcomes],
        [o.detail for o in outcomes],
        [o.raw for o in outcomes],
        [orjson.dumps(o.payload(r) if isinstance(o, Dropped) else r.payload).decode() for r, o in rejects],
    ]
    return pa.table(columns, schema=REJECT_SCHEMA)
