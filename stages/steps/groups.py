"""Decisions about rows among those of their group (answers to a question, equal texts), in memory that more
rows do not need more of: what counts of each row is dealt by group into files, which are decided one by one.
"""

import heapq
import os
import pickle
import tempfile
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from pipeline.rows import Row

IN_MEMORY = 50_000  # rows that are decided without files
SHARES = 128
BATCH = 200  # entries written at once

Entry = tuple[int, Hashable, Any]  # the row's number, its group, and what counts of it
# From what counts of a group's rows, in their order, to the decision about each.
Decide = Callable[[list[Any]], Iterable[Any]]


def decided(
    rows: Callable[[], Iterable[Row]],
    entry: Callable[[Row], tuple[Hashable, Any]],
    decide: Decide,
    before: Iterable[tuple[Hashable, Any]] = (),
) -> Iterator[tuple[Row, Any]]:
    """Yield each row, in order, with what `decide` says about it.

    `entry` returns a row's group and what counts of the row; `before` are entries that come first and are no
    rows. `rows` is read twice, in the same order. Memory: one of SHARES shares of what counts of rows, and
    the largest group.
    """
    numbered = ((i, *entry(row)) for i, row in enumerate(rows()))
    entries = chain(((-1, *other) for other in before), numbered)
    few = list(islice(entries, IN_MEMORY + 1))
    if len(few) <= IN_MEMORY:
        decisions = (decision for _, decision in _decided(few, decide))
        yield from zip(rows(), decisions, strict=True)
        return
    with tempfile.TemporaryDirectory(prefix="selfloop-groups-") as aside:
        shares = [Share(f"{aside}/{i}") for i in range(SHARES)]
        for one in chain(few, entries):
            shares[hash(one[1]) % SHARES].add(one)
        del few
        files = [
            Share(f"{aside}/decided-{i}", _decided(list(share), decide)) for i, share in enumerate(shares)
        ]
        decisions = (decision for _, decision in heapq.merge(*files, key=lambda one: one[0]))
        yield from zip(rows(), decisions, strict=True)


class Share:
    """Values in a file, in the order in which they were added."""

    def __init__(self, path: str, values: Iterable[Any] = (), batch: int = BATCH) -> None:
        self._path, self._batch = path, batch
        self._last: list[Any] = []
        for value in values:
            self.add(value)

    def add(self, value: Any) -> None:
        self._last.append(value)
        if len(self._last) >= self._batch:
            with open(self._path, "ab") as file:  # not held open: there may be more shares than a process may
                pickle.dump(self._last, file, protocol=5)
            self._last = []

    def __iter__(self) -> Iterator[Any]:
        if os.path.exists(self._path):
            with open(self._path, "rb") as file:
                while file.peek(1):
                    yield from pickle.load(file)
        yield from self._last


def _decided(entries: list[Entry], decide: Decide) -> Iterator[tuple[int, Any]]:
    """Yield each row's number, ascending, and the decision about it."""
    groups: dict[Hashable, list[int]] = defaultdict(list)  # places in `entries`
    for place, (_, group, _) in enumerate(entries):
        groups[group].append(place)
    found: list[Any] = [None] * len(entries)
    for places in groups.values():
        decisions = decide([entries[place][2] for place in places])
        for place, decision in zip(places, decisions, strict=True):
            found[place] = decision
    yield from ((number, found[place]) for place, (number, _, _) in enumerate(entries) if number >= 0)
