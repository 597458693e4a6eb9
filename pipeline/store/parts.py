"""Part files: what became of some input rows, written together or not at all.

A flush writes up to three Arrow files of one name: `dropped/`, `failed/`, and last the part itself with the rows that were
kept. The rename of the part is the commit: rejects without a part of the same name are leftovers of a kill and are removed.
A part's schema metadata tells which input rows it accounts for.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DamagedError
from pipeline.rows import Dropped, Failed, Kept, Outcome, Row, rejects_to_table, rows_to_table, table_to_rows
from pipeline.store import files

META = b"selfloop"


@dataclass(slots=True)
class Counts:
    """What happened to input rows, and what it cost. Adds up over parts."""

    done: int = 0
    out: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
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
        for name in ("dropped", "failed"):
            mine = getattr(self, name)
            for reason, n in getattr(other, name).items():
                mine[reason] = mine.get(reason, 0) + n

    def add_outcome(self, outcome: Outcome) -> None:
        if isinstance(outcome, Kept):
            self.done += 1
            self.out += len(outcome.rows)
        elif isinstance(outcome, Dropped):
            self.dropped[outcome.reason] = self.dropped.get(outcome.reason, 0) + 1
        else:
            self.failed[outcome.error] = self.failed.get(outcome.error, 0) + 1


class PartWriter:
    """Collects outcomes and writes them as parts named `part-<writer>-<sequence>`."""

    def __init__(self, kept_folder: str, reject_folder: str, writer: str) -> None:
        self._kept_folder, self._reject_folder, self._writer = kept_folder, reject_folder, writer
        self._sequence = 0
        self._outcomes: list[tuple[Row, Outcome]] = []
        self._cost = Counts()

    def __len__(self) -> int:
        return len(self._outcomes)

    def add(self, row: Row, outcome: Outcome, cost: Counts | None = None) -> None:
        """Take note of what became of an input row, and of the tokens and requests it cost."""
        self._outcomes.append((row, outcome))
        if cost:
            self._cost.add(cost)

    def take(self) -> "PendingPart":
        """Return what was collected as a part that can be written (from another thread), and begin anew."""
        part = PendingPart(
            self._kept_folder,
            self._reject_folder,
            f"part-{self._writer}-{self._sequence:05d}",
            self._outcomes,
            self._cost,
        )
        self._outcomes, self._cost = [], Counts()
        self._sequence += 1
        return part

    def flush(self) -> None:
        """Write what was collected, if anything."""
        if self._outcomes:
            self.take().write()


class PendingPart(NamedTuple):
    """Outcomes that are to be written as one part."""

    kept_folder: str
    reject_folder: str
    name: str
    outcomes: list[tuple[Row, Outcome]]
    cost: Counts

    def write(self) -> None:
        """Write rejects first, the part last: once it is there, its input rows are done."""
        for kind, cls in (("dropped", Dropped), ("failed", Failed)):
            rejects = [(r, o) for r, o in self.outcomes if isinstance(o, cls)]
            if rejects:
                _write(files.join(self.reject_folder, kind, f"{self.name}.arrow"), rejects_to_table(rejects))
        counts = self.cost
        for _, outcome in self.outcomes:
            counts.add_outcome(outcome)
        table = rows_to_table([row for _, o in self.outcomes if isinstance(o, Kept) for row in o.rows])
        meta = {"inputs": [r.id for r, _ in self.outcomes], "counts": asdict(counts)}
        _write(
            files.join(self.kept_folder, f"{self.name}.arrow"),
            table.replace_schema_metadata({META: orjson.dumps(meta)}),
        )


class PartInfo(NamedTuple):
    """A committed part: its path, its input rows' ids and its counts."""

    path: str
    inputs: list[str]
    counts: Counts


def committed(kept_folder: str, pattern: str = "part-*.arrow") -> Iterator[PartInfo]:
    """Yield the parts that are there."""
    for path in files.glob(kept_folder, pattern):
        with _open(path) as reader:
            meta = orjson.loads(reader.schema.metadata[META])
        yield PartInfo(path, meta["inputs"], Counts(**meta["counts"]))


def sweep(kept_folder: str, reject_folder: str) -> None:
    """Remove what a kill left: rejects without their part, and files that were being written."""
    parts = {p.rsplit("/", 1)[1] for p in files.glob(kept_folder, "part-*.arrow")}
    for kind in ("dropped", "failed"):
        for path in files.glob(files.join(reject_folder, kind), "part-*.arrow"):
            # Looked for once more: where files are seen late, the list may be older than the part.
            if (name := path.rsplit("/", 1)[1]) not in parts and not files.exists(
                files.join(kept_folder, name)
            ):
                files.remove(path)
    for folder in (kept_folder, *(files.join(reject_folder, k) for k in ("dropped", "failed"))):
        for path in files.glob(folder, "*.tmp"):
            files.remove(path)


def forget_failed(kept_folder: str, reject_folder: str, error: str | None = None) -> int:
    """Take failed rows (those that failed with `error`, or all) out of the parts that account for them, so that they are worked on again.

    Other rows stay. Returns how many were taken out.
    """
    found = 0
    for path in files.glob(files.join(reject_folder, "failed"), "part-*.arrow"):
        name = path.rsplit("/", 1)[1]
        with _open(path) as reader:
            rejects = reader.read_all()
        chosen = (
            pc.equal(rejects["reason"], error)
            if error
            else pa.chunked_array([[True] * len(rejects)], pa.bool_())
        )
        failed, stay = set(rejects.filter(chosen)["id"].to_pylist()), rejects.filter(pc.invert(chosen))
        if not failed:
            continue
        found += len(failed)
        part = files.join(kept_folder, name)
        with _open(part) as reader:
            table = reader.read_all()
        meta = orjson.loads(table.schema.metadata[META])
        meta["inputs"] = [i for i in meta["inputs"] if i not in failed]
        meta["counts"]["failed"] = dict(Counter(stay["reason"].to_pylist()))
        _write(part, table.replace_schema_metadata({META: orjson.dumps(meta)}))
        if len(stay):
            _write(path, stay)
        else:
            files.remove(path)
    return found


def row_count(path: str) -> int:
    """Return how many rows a part holds."""
    with _open(path) as reader:
        return sum(batch.num_rows for batch in reader)


def read_rows(path: str) -> Iterator[Row]:
    """Yield the rows of a part, one record batch in memory at a time. Raises DamagedError for one that is not whole, or not there."""
    try:
        with _open(path) as reader:
            for batch in reader:
                yield from table_to_rows(batch)
    except FileNotFoundError:
        raise DamagedError.of(path, "not there, and a manifest.json says that it is") from None


def read_tables(folder: str, pattern: str = "*.arrow") -> Iterator[pa.Table]:
    """Yield the Arrow files of a folder as tables."""
    for path in files.glob(folder, pattern):
        with _open(path) as reader:
            yield reader.read_all()


def sha256(path: str) -> str:
    """Return the sha256 hex digest of a file."""
    fs, name = files.filesystem(path)
    found = hashlib.sha256()
    with fs.open(name, "rb") as f:
        while block := f.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _write(path: str, table: pa.Table) -> None:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table, max_chunksize=1000)
    files.write_bytes(path, sink.getbuffer())


@contextmanager
def damage_is_told(path: str) -> Iterator[None]:
    """Raise DamagedError where pyarrow finds that the file at `path` is none of its own, or half of one."""
    try:
        yield
    except pa.ArrowInvalid as e:
        raise DamagedError.of(path, f"damaged ({e})") from None
    except OSError as e:
        if e.errno is not None:  # a disk's or a network's, with its own word for it
            raise
        raise DamagedError.of(path, f"damaged ({e})") from None


@contextmanager
def _open(path: str) -> Iterator[pa.RecordBatchStreamReader]:
    fs, name = files.filesystem(path)
    with damage_is_told(path), fs.open(name, "rb") as file, pa.ipc.open_stream(file) as reader:
        yield reader
