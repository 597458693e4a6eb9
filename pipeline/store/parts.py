"""Part files: what became of some input rows, committed together or not at all.

A flush writes up to three Arrow files of one name, each atomically: `dropped/NAME`, `failed/NAME`, and last
the part `NAME` with the kept rows, whose metadata lists the input rows that all three account for. The rename
of the part is the commit. A kill before it leaves rejects without a part, which `sweep` removes; their rows
are processed again. A stage never uses a writer's name twice, so no part is overwritten; `forget_failed`
alone rewrites one.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from posixpath import basename
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DamagedError
from pipeline.rows import (
    ROW_SCHEMA,
    Dropped,
    Failed,
    Kept,
    Outcome,
    Row,
    rejects_to_table,
    rows_to_table,
    table_to_rows,
)
from pipeline.store import files

META = b"selfloop"
GROWS_EVERY, MOST_GROWTH = 100, 4  # after every 100 parts of a writer, parts grow, up to four times
_COUNTS = b'],"counts":'  # after the list of inputs; within an id the quotes would be escaped


@dataclass(slots=True)
class Counts:
    """What happened to input rows, and the tokens and requests it took."""

    done: int = 0
    out: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> rows
    failed: dict[str, int] = field(default_factory=dict)  # error -> rows
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sent: int = 0
    from_log: int = 0

    @property
    def rows_in(self) -> int:
        return self.done + sum(self.dropped.values()) + sum(self.failed.values())

    def add(self, other: "Counts") -> None:
        for name in ("done", "out", "prompt_tokens", "completion_tokens", "sent", "from_log"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in ((self.dropped, other.dropped), (self.failed, other.failed)):
            for reason, n in theirs.items():
                mine[reason] = mine.get(reason, 0) + n

    def add_outcome(self, outcome: Outcome) -> None:
        if isinstance(outcome, Kept):
            self.done += 1
            self.out += len(outcome.rows)
        elif isinstance(outcome, Dropped):
            self.dropped[outcome.reason] = self.dropped.get(outcome.reason, 0) + 1
        else:
            self.failed[outcome.error] = self.failed.get(outcome.error, 0) + 1


class PendingPart(NamedTuple):
    """Outcomes to be written as one part."""

    kept_folder: str
    reject_folder: str
    name: str
    outcomes: list[tuple[Row, Outcome]]
    cost: Counts

    def write(self) -> None:
        """Write the rejects, then the part: once that is there, its input rows are done."""
        for kind, cls in (("dropped", Dropped), ("failed", Failed)):
            rejects = [(row, o) for row, o in self.outcomes if isinstance(o, cls)]
            if rejects:
                _write(files.join(self.reject_folder, kind, self.name), rejects_to_table(rejects))
        for _, outcome in self.outcomes:
            self.cost.add_outcome(outcome)
        kept = [row for _, o in self.outcomes if isinstance(o, Kept) for row in o.rows]
        meta = {"inputs": [row.id for row, _ in self.outcomes], "counts": asdict(self.cost)}
        _write(files.join(self.kept_folder, self.name), rows_to_table(kept), meta)


class PartWriter:
    """Collects outcomes and writes them as parts named `part-<writer>-<sequence>.arrow`."""

    def __init__(self, kept_folder: str, reject_folder: str, writer: str) -> None:
        self._kept_folder, self._reject_folder, self._writer = kept_folder, reject_folder, writer
        self._sequence = 0
        self._outcomes: list[tuple[Row, Outcome]] = []
        self._cost = Counts()

    def __len__(self) -> int:
        return len(self._outcomes)

    @property
    def growth(self) -> int:
        """How much larger than the first parts the next one should be: of many rows come fewer files."""
        return min(MOST_GROWTH, 1 + self._sequence // GROWS_EVERY)

    def add(self, row: Row, outcome: Outcome, cost: Counts | None = None) -> None:
        """Add an input row's outcome, and the tokens and requests it cost."""
        self._outcomes.append((row, outcome))
        if cost:
            self._cost.add(cost)

    def take(self) -> PendingPart:
        """Return what was collected as a part, to be written from any thread, and start the next one."""
        name = f"part-{self._writer}-{self._sequence:05d}.arrow"
        part = PendingPart(self._kept_folder, self._reject_folder, name, self._outcomes, self._cost)
        self._outcomes, self._cost = [], Counts()
        self._sequence += 1
        return part

    def flush(self) -> None:
        """Write what was collected, if anything."""
        if self._outcomes:
            self.take().write()


class PartInfo(NamedTuple):
    """A committed part: its path, the ids of its input rows and its counts."""

    path: str
    inputs: list[str]
    counts: Counts


def committed(kept_folder: str, pattern: str = "part-*.arrow") -> Iterator[PartInfo]:
    """Yield the committed parts of a folder."""
    for path in files.glob(kept_folder, pattern):
        with _open(path) as reader:
            meta = orjson.loads(reader.schema.metadata[META])
        yield PartInfo(path, meta["inputs"], Counts(**meta["counts"]))


def counts_of(path: str) -> Counts:
    """Return a part's counts, without reading which rows it accounts for."""
    with _open(path) as reader:
        meta = reader.schema.metadata[META]
    at = meta.find(_COUNTS)
    return Counts(**orjson.loads(memoryview(meta)[at + len(_COUNTS) : -1]))


def counted(kept_folder: str, pattern: str = "part-*.arrow") -> Counts:
    """Return the counts of all committed parts of a folder."""
    total = Counts()
    for path in files.glob(kept_folder, pattern):
        total.add(counts_of(path))
    return total


def sweep(kept_folder: str, reject_folder: str) -> None:
    """Remove what a kill left: rejects without a part, and temporary files. Call it while nothing writes."""
    reject_folders = [files.join(reject_folder, kind) for kind in ("dropped", "failed")]
    names = {basename(path) for path in files.glob(kept_folder, "part-*.arrow")}
    for folder in reject_folders:
        for path in files.glob(folder, "part-*.arrow"):
            name = basename(path)
            # Looked up again: where files become visible late, the listing may be older than the part.
            if name not in names and not files.exists(files.join(kept_folder, name)):
                files.remove(path)
    for folder in (kept_folder, *reject_folders):
        for path in files.glob(folder, "*.tmp"):
            files.remove(path)


def forget_failed(kept_folder: str, reject_folder: str, error: str | None = None) -> int:
    """Take failed rows out of their parts, so that they are processed again; return how many.

    `error` limits that to the rows that failed with it. The part is rewritten before its rejects: a kill in
    between leaves rejects that no part accounts for, and the next call completes it.
    """
    count = 0
    for path in files.glob(files.join(reject_folder, "failed"), "part-*.arrow"):
        rejects = _read(path)
        again = pa.array([error in (None, reason) for reason in rejects["reason"].to_pylist()], pa.bool_())
        forgotten, stay = set(rejects.filter(again)["id"].to_pylist()), rejects.filter(pc.invert(again))
        if not forgotten:
            continue
        count += len(forgotten)
        part = files.join(kept_folder, basename(path))
        table = _read(part)
        meta = orjson.loads(table.schema.metadata[META])
        meta["inputs"] = [i for i in meta["inputs"] if i not in forgotten]
        meta["counts"]["failed"] = dict(Counter(stay["reason"].to_pylist()))
        _write(part, table, meta)
        if len(stay):
            _write(path, stay)
        else:
            files.remove(path)
    return count


def row_count(path: str) -> int:
    """Return how many rows a part holds."""
    with _open(path) as reader:
        return sum(batch.num_rows for batch in reader)


def read_rows(path: str) -> Iterator[Row]:
    """Yield the rows of a part, one record batch in memory at a time.

    Raises DamagedError for a part that is missing or incomplete.
    """
    with _open_listed(path) as reader:
        for batch in reader:
            yield from table_to_rows(batch)


def read_ids(path: str) -> list[pa.Array]:
    """Return the ids of the rows of a part, without decompressing the rest.

    Raises DamagedError for a part that is missing or incomplete.
    """
    with _open_listed(path, columns=[ROW_SCHEMA.get_field_index("id")]) as reader:
        return [batch["id"] for batch in reader]


def read_tables(folder: str, pattern: str = "*.arrow") -> Iterator[pa.Table]:
    """Yield the Arrow files of a folder as tables."""
    for path in files.glob(folder, pattern):
        yield _read(path)


def sha256(path: str) -> str:
    """Return the sha256 hex digest of a file."""
    fs, name = files.filesystem(path)
    digest = hashlib.sha256()
    with fs.open(name, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def as_damaged(path: str) -> Iterator[None]:
    """Raise DamagedError when pyarrow finds that the file at `path` is incomplete, or not Arrow."""
    try:
        yield
    except pa.ArrowInvalid as e:
        raise DamagedError.of(path, f"damaged ({e})") from None
    except OSError as e:
        if e.errno is not None:  # the disk's or the network's own error
            raise
        raise DamagedError.of(path, f"damaged ({e})") from None


@contextmanager
def _open(path: str, columns: Sequence[int] = ()) -> Iterator[pa.RecordBatchStreamReader]:
    """Open a part, to read all or some of its columns."""
    fs, name = files.filesystem(path)
    options = pa.ipc.IpcReadOptions(included_fields=list(columns))
    with as_damaged(path), fs.open(name, "rb") as file, pa.ipc.open_stream(file, options=options) as reader:
        yield reader


@contextmanager
def _open_listed(path: str, columns: Sequence[int] = ()) -> Iterator[pa.RecordBatchStreamReader]:
    try:
        with _open(path, columns) as reader:
            yield reader
    except FileNotFoundError:
        raise DamagedError.of(path, "missing, but a manifest.json lists it") from None


def _read(path: str) -> pa.Table:
    with _open(path) as reader:
        return reader.read_all()


def _write(path: str, table: pa.Table, meta: dict[str, Any] | None = None) -> None:
    if meta:
        table = table.replace_schema_metadata({META: orjson.dumps(meta)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table, max_chunksize=1000)
    files.write_bytes(path, sink.getbuffer())
