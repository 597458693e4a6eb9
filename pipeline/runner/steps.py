"""Dataset steps: functions over all rows of a stage (deduplication, votes, caps), from files to files."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from pipeline.errors import StageError
from pipeline.garbage import rarely_collected
from pipeline.rows import Dropped, Kept, Row
from pipeline.stage import DatasetStep
from pipeline.store import files, parts
from pipeline.store.manifest import StepEntry

ROWS_PER_PART = 5000


def run_steps(
    steps: dict[str, DatasetStep], rows: Callable[[], Iterable[Row]], folder: str
) -> list[StepEntry]:
    """Run the steps in order. They are deterministic and ask no model, so an interrupted one simply starts
    over.

    The last step writes the parts of the stage in `folder`; rows that a step drops join the stage's
    `dropped/`. A step that replaces rows (Kept) still answers for each row it was given, and its entry counts
    those.
    """
    for old in [
        *files.glob(folder, "part-*.arrow"),
        *files.glob(files.join(folder, "dropped"), "part-step-*.arrow"),
    ]:
        files.remove(old)
    entries = []
    for i, (name, step) in enumerate(steps.items()):
        target = folder
        if i < len(steps) - 1:
            target = files.join(folder, "steps", f"{i}-{name}")
            files.remove(target)
        with rarely_collected():
            entries.append(_run_step(name, step, rows, parts.PartWriter(target, folder, f"step-{i}")))
        rows = partial(rows_in, target)
    return entries


def rows_in(folder: str) -> Iterable[Row]:
    """Yield the rows of all parts in a folder."""
    for path in files.glob(folder, "part-*.arrow"):
        yield from parts.read_rows(path)


class _Given:
    """The rows that a step is given. The first pass that reads all of them counts them."""

    def __init__(self, rows: Callable[[], Iterable[Row]]) -> None:
        self._rows = rows
        self._counted: tuple[int, int] | None = None

    def __call__(self) -> Iterable[Row]:
        return self._rows() if self._counted else self._counting()

    def _counting(self) -> Iterator[Row]:
        count = balance = 0
        for row in self._rows():
            count += 1
            balance += hash(row.id)
            yield row
        self._counted = count, balance

    def counted(self) -> tuple[int, int]:
        """Return how many rows there are, and the sum of their ids' hashes."""
        if self._counted is None:  # the step has read some of them only
            for _ in self._counting():
                pass
        assert self._counted is not None, "the pass has come to its end"
        return self._counted


def _run_step(
    name: str, step: DatasetStep, rows: Callable[[], Iterable[Row]], out: parts.PartWriter
) -> StepEntry:
    entry, given = StepEntry(name=name, rows_in=0, rows_out=0), _Given(rows)
    yielded = 0  # of id hashes: another sum if one row came twice and another not at all
    for row, verdict in step(given):
        yielded += hash(row.id)
        out.add(row, Kept([row]) if verdict is None else verdict)
        if isinstance(verdict, Dropped):
            entry.dropped[verdict.reason] = entry.dropped.get(verdict.reason, 0) + 1
        else:
            entry.rows_out += 1
            entry.rows_replaced += isinstance(verdict, Kept)
        if len(out) >= ROWS_PER_PART:
            out.flush()
    out.flush()
    entry.rows_in, balance = given.counted()
    if balance != yielded:
        raise StageError(
            f"step {name} lost rows, or yielded some twice or under another id: {entry.rows_in} in, "
            f"{entry.model_dump()}"
        )
    return entry
