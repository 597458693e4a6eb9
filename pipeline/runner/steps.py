"""Steps over all rows of a stage (deduplication, votes, caps), one after the other, each from files to files."""

from collections.abc import Callable, Iterable

from pipeline.errors import StageError
from pipeline.methods import DatasetStep
from pipeline.rows import Dropped, Kept, Row
from pipeline.store import files, parts
from pipeline.store.manifest import StepEntry

ROWS_PER_PART = 5000


def run_steps(
    steps: dict[str, DatasetStep], rows: Callable[[], Iterable[Row]], folder: str
) -> list[StepEntry]:
    """Run the steps in order. They are deterministic and ask no model, so an interrupted one simply starts again.

    The last step's rows become the parts of the stage in `folder`; what a step drops joins the stage's `dropped/`. A step that
    makes other rows (Kept) still answers for each row it was given, and its entry counts those.
    """
    entries = []
    for old in [
        *files.glob(folder, "part-*.arrow"),
        *files.glob(files.join(folder, "dropped"), "part-step-*.arrow"),
    ]:
        files.remove(old)
    names = list(steps)
    for i, name in enumerate(names):
        last = i == len(names) - 1
        target = folder if last else files.join(folder, "steps", f"{i}-{name}")
        if not last:
            files.remove(target)
        entries.append(_run_step(name, steps[name], rows, target, folder, f"step-{i}"))
        rows = _reader(target)
    return entries


def _run_step(
    name: str, step: DatasetStep, rows: Callable[[], Iterable[Row]], target: str, folder: str, writer: str
) -> StepEntry:
    out = parts.PartWriter(target, folder, writer)
    entry = StepEntry(name=name, rows_in=0, rows_out=0)
    balance = 0  # of the hashes of ids: not 0 when a row was given twice and another not at all, which counts do not show
    for row in rows():
        entry.rows_in += 1
        balance += hash(row.id)
    for row, verdict in step(rows):
        balance -= hash(row.id)
        out.add(row, Kept([row]) if verdict is None else verdict)
        if isinstance(verdict, Dropped):
            entry.dropped[verdict.reason] = entry.dropped.get(verdict.reason, 0) + 1
        else:
            entry.rows_out += 1
        if len(out) >= ROWS_PER_PART:
            out.flush()
    out.flush()
    if balance:
        raise StageError(
            f"step {name} of {folder} lost rows, or gave some twice or under another id: {entry.rows_in} in, {entry.model_dump()}"
        )
    return entry


def _reader(folder: str) -> Callable[[], Iterable[Row]]:
    def read() -> Iterable[Row]:
        for path in files.glob(folder, "part-*.arrow"):
            yield from parts.read_rows(path)

    return read
