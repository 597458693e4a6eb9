"""Rows on disk instead of in memory, which can be read again and in any order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.rows import ROW_SCHEMA, Row, rows_to_table, table_to_rows

BATCH = 2000  # rows that are Python objects at a time
_NOTE = pa.field("note", pa.string())


class Rows(Sequence[Row]):
    """Rows in the order in which they were spooled, each made when it is asked for: changing one changes
    nothing here.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch] = (), places: np.ndarray | None = None) -> None:
        """`batches` have BATCH rows each, but for the last; `places` ascend, and are by default all."""
        self._batches = batches
        self._places = np.arange(sum(b.num_rows for b in batches)) if places is None else places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return self.at(np.arange(len(self))[at])
        [row] = table_to_rows(self._slice(at))
        return row

    def __iter__(self) -> Iterator[Row]:
        return (row for batch in self._chosen() for row in table_to_rows(batch))

    def at(self, which: np.ndarray) -> "Rows":
        """Return some of the rows, given by ascending places or by a truth value for each row."""
        return Rows(self._batches, self._places[which])

    def where(self, test: Callable[[Row], bool]) -> "Rows":
        """Return the rows that pass a test."""
        return self.at(np.fromiter(map(test, self), bool, len(self)))

    def ids(self) -> pa.ChunkedArray:
        """Return the rows' ids."""
        return pa.chunked_array([batch["id"] for batch in self._chosen(["id"])], pa.string())

    def note(self, at: int) -> str:
        """Return what was noted beside a row."""
        return str(self._slice(at)["note"][0])

    def _slice(self, at: int) -> pa.RecordBatch:
        batch, offset = divmod(int(self._places[at]), BATCH)
        return self._batches[batch].slice(offset, 1)

    def _chosen(self, columns: Sequence[str] = tuple(ROW_SCHEMA.names)) -> Iterator[pa.RecordBatch]:
        for i, batch in enumerate(self._batches):
            first, end = self._places.searchsorted((i * BATCH, (i + 1) * BATCH))
            if first < end:
                yield batch.select(columns).take(pa.array(self._places[first:end] - i * BATCH))


def spooled(rows: Iterable[tuple[Row, str]]) -> Rows:
    """Return rows, each with a note, from a temporary file that is mapped into memory."""
    left = iter(rows)
    # Once the file is mapped, it lives as long as the mapping, without a name that a kill could leave behind.
    with TemporaryDirectory(prefix="selfloop-rows-") as aside:
        path = f"{aside}/rows.arrow"
        with pa.ipc.new_file(path, ROW_SCHEMA.append(_NOTE)) as writer:
            while batch := list(islice(left, BATCH)):
                notes = pa.array([note for _, note in batch], pa.string())
                writer.write_table(rows_to_table([row for row, _ in batch]).append_column(_NOTE, notes))
        with pa.memory_map(path) as file:
            reader = pa.ipc.open_file(file)
            return Rows([reader.get_batch(i) for i in range(reader.num_record_batches)])
