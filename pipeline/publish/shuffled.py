"""Rows in a seeded order, in memory that more rows do not need more of: they are dealt into shares of the
order, which are then sorted one by one.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError

DEALT = 10_000  # rows that are dealt at once; as many or fewer need no files
SHARES = 128
SORTED = 1000  # rows of a table that is yielded

Place = Callable[[str], float]  # of a row id, in [0, 1)


def shuffled(batches: Iterable[pa.RecordBatch], place: Place, aside: Path) -> Iterator[pa.Table]:
    """Yield the rows of `batches`, which have a column row_id, in the order of (place, id).

    `aside` is a folder for files. Raises DataError for an id that occurs twice.
    """
    hands = _hands(batches)
    first, second = next(hands, None), next(hands, None)
    if first is None:
        return
    if second is None:
        yield from _sorted(first, place)
        return
    files = [aside / f"share-{i}.arrow" for i in range(SHARES)]
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_stream(str(file), first.schema)) for file in files]
        _deal(first, place, writers)
        _deal(second, place, writers)
        del first, second
        for hand in hands:
            _deal(hand, place, writers)
    for file in files:
        with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as reader:
            yield from _sorted(reader.read_all(), place)
        file.unlink()


def _hands(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield tables of DEALT rows, or somewhat more."""
    hand: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        hand.append(batch)
        count += batch.num_rows
        if count >= DEALT:
            yield pa.Table.from_batches(hand)
            hand, count = [], 0
    if hand:
        yield pa.Table.from_batches(hand)


def _deal(hand: pa.Table, place: Place, writers: list[pa.RecordBatchStreamWriter]) -> None:
    shares = np.array([int(place(row_id) * SHARES) for row_id in hand["row_id"].to_pylist()])
    by_share = hand.combine_chunks().take(np.argsort(shares, kind="stable"))
    ends = np.cumsum(np.bincount(shares, minlength=SHARES))
    for writer, start, end in zip(writers, [0, *ends], ends, strict=False):
        if end > start:
            writer.write_table(by_share.slice(start, end - start))


def _sorted(rows: pa.Table, place: Place) -> Iterator[pa.Table]:
    ids, rows = rows["row_id"].to_pylist(), rows.combine_chunks()
    order = [i for _, _, i in sorted((place(row_id), row_id, i) for i, row_id in enumerate(ids))]
    for one, next_ in pairwise(order):
        if ids[one] == ids[next_]:
            raise DataError(f"row id {ids[one]!r} occurs twice among the rows to publish.")
    for start in range(0, len(order), SORTED):
        yield rows.take(order[start : start + SORTED])
