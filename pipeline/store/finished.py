"""The rows that parts account for, held as numbers of 8 bytes: a set of their ids takes 120 bytes a row.

A row that shared its number with a finished row would be left out, and the manifest would say that it is
lost.
"""

from collections.abc import Iterable

import numpy as np

from pipeline.errors import StageError
from pipeline.many_ids import number_of
from pipeline.store import parts
from pipeline.store.parts import Counts


class FinishedRows:
    """A set of row ids."""

    def __init__(self, ids: Iterable[Iterable[str]] = ()) -> None:
        """`ids` come in portions, such as those of a part."""
        portions = [np.fromiter(map(number_of, portion), np.uint64) for portion in ids]
        self._numbers = np.sort(np.concatenate(portions)) if portions else np.empty(0, np.uint64)

    def __contains__(self, row_id: object) -> bool:
        if not len(self._numbers):
            return False
        number = np.uint64(number_of(str(row_id)))
        at = self._numbers.searchsorted(number)
        return bool(at < len(self._numbers) and self._numbers[at] == number)

    def __len__(self) -> int:
        return len(self._numbers)

    def twice(self) -> set[int]:
        """Return the numbers of ids that were given twice."""
        return set(self._numbers[1:][self._numbers[1:] == self._numbers[:-1]].tolist())


def finished_in(rows_folder: str, pattern: str = "part-*.arrow") -> tuple[FinishedRows, Counts]:
    """Return the input rows that the parts of a folder account for, and their counts.

    Raises StageError for a row in two parts.
    """
    counts = Counts()

    def inputs() -> Iterable[list[str]]:
        for part in parts.committed(rows_folder, pattern):
            counts.add(part.counts)
            yield part.inputs

    finished = FinishedRows(inputs())
    if twice := finished.twice():
        _refuse(rows_folder, pattern, twice)
    return finished, counts


def _refuse(rows_folder: str, pattern: str, twice: set[int]) -> None:
    """Raise StageError naming the part that repeats rows, unless they are others with the same number."""
    seen: set[str] = set()
    for part in parts.committed(rows_folder, pattern):
        suspects = {row_id for row_id in part.inputs if number_of(row_id) in twice}
        if again := seen & suspects:
            raise StageError(
                f"{part.path}: {len(again)} of its rows, such as {min(again)}, are in an earlier part as "
                "well: two workers wrote "
                "them, one of which Ray had given up while it lived on. Remove this file, and those of the "
                "same name in dropped/ "
                "and failed/, then rerun."
            )
        seen |= suspects
