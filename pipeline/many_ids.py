"""Ids of many rows, as an Arrow column of 24 bytes a row: as a list or set of texts they take 80 to 130."""

import hashlib
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ids import unit_interval

BATCH = 10_000  # ids that are Python objects at a time


def each(ids: pa.ChunkedArray) -> Iterator[str]:
    """Yield the ids as texts."""
    for start in range(0, len(ids), BATCH):
        yield from ids.slice(start, BATCH).to_pylist()


def unit_intervals(ids: pa.ChunkedArray, *parts: str | int) -> np.ndarray:
    """Return unit_interval(*parts, id) of each id."""
    return np.fromiter((unit_interval(*parts, i) for i in each(ids)), np.float64, len(ids))


def in_order(ids: pa.ChunkedArray, *keys: np.ndarray) -> np.ndarray:
    """Return the places of the ids in the order of (*keys, id), as `sorted` has it."""
    table = pa.table([*map(pa.array, keys), ids], names=[*map(str, range(len(keys))), "id"])
    order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in table.column_names])
    return order.to_numpy().astype(np.int64)  # with unsigned places `datasets` cannot select


def list_digest(head: str, ids: pa.ChunkedArray) -> str:
    """Return what `digest([head, sorted ids])` returns."""
    ordered = ids.take(pc.sort_indices(ids))
    total = hashlib.sha256(b"[" + orjson.dumps(head) + b",[")
    for i, id_ in enumerate(each(ordered)):
        total.update(b"," + orjson.dumps(id_) if i else orjson.dumps(id_))
    total.update(b"]]")
    return total.hexdigest()


def number_of(row_id: str) -> int:
    """Return the 8 bytes that stand for an id; among ten million two share theirs with a chance of 3 in a
    million."""
    return int.from_bytes(blake2b(row_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class Places:
    """Where ids are in a column of distinct ones, which is held as `number_of` each."""

    def __init__(self, ids: pa.ChunkedArray) -> None:
        numbers = np.fromiter(map(number_of, each(ids)), np.uint64, len(ids))
        self._order = np.argsort(numbers)
        self._numbers = numbers[self._order]

    def __len__(self) -> int:
        return len(self._numbers)

    def of(self, ids: Iterable[str]) -> np.ndarray:
        """Return the places of those ids that are in the column."""
        numbers = np.fromiter(map(number_of, ids), np.uint64)
        at = self._numbers.searchsorted(numbers)
        inside = at < len(self._numbers)
        at, numbers = at[inside], numbers[inside]
        return self._order[at[self._numbers[at] == numbers]]

    def count(self, ids: Iterable[str]) -> np.ndarray:
        """Return for each place how often its id is among `ids`."""
        counts, left = np.zeros(len(self._numbers), np.int64), iter(ids)
        while batch := list(islice(left, BATCH)):
            np.add.at(counts, self.of(batch), 1)
        return counts
