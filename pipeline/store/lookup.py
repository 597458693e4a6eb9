"""Look up rows in parts and requests in logs: only the columns needed are read, logs are searched as bytes.

Safe while a stage runs: a file that disappears between listing and reading is skipped.
"""

import mmap
import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store import files
from pipeline.store.parts import META, as_damaged


class RowRef(NamedTuple):
    """Where a row is stored, its id and its parents."""

    path: str
    id: str
    parents: list[str]


def read_columns(path: str, names: Collection[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow file with the columns `names` (default: all); others are not
    decompressed.
    """
    fs, name = files.filesystem(path)
    try:
        file = pa.memory_map(name) if files.is_local(path) else fs.open(name, "rb")
    except FileNotFoundError:
        return
    with as_damaged(path), file:
        schema = pa.ipc.open_stream(file).schema
        wanted = [i for i, field in enumerate(schema.names) if names is None or field in names]
        file.seek(0)
        yield from pa.ipc.open_stream(file, options=pa.ipc.IpcReadOptions(included_fields=wanted))


def with_ids(path: str, ids: Collection[str]) -> Iterator[RowRef]:
    """Yield the rows of a part whose id is one of `ids`."""
    for batch in _with_ids(path, ids, ("id", "parents")):
        yield from _refs(path, batch)


def with_parents(path: str, ids: Collection[str]) -> Iterator[RowRef]:
    """Yield the rows of a part that have one of `ids` among their parents."""
    wanted = pa.array(ids, pa.string())
    for batch in read_columns(path, ("id", "parents")):
        hit = pc.is_in(pc.list_flatten(batch["parents"]), value_set=wanted)
        places = pc.unique(pc.filter(pc.list_parent_indices(batch["parents"]), hit))
        if len(places):
            yield from _refs(path, batch.take(places))


def with_prefix(path: str, prefix: str) -> Iterator[str]:
    """Yield the ids in a part that begin with `prefix`."""
    for batch in read_columns(path, ("id",)):
        yield from batch["id"].filter(pc.starts_with(batch["id"], prefix)).to_pylist()


def payload(path: str, row_id: str) -> dict[str, Any]:
    """Return the payload of a row of a part; {} if the part does not hold it."""
    for batch in _with_ids(path, [row_id], ("id", "payload")):
        for text in batch["payload"].to_pylist():
            return orjson.loads(text)
    return {}


def rejects(path: str, ids: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the rejects in a file whose id is one of `ids`, as dicts (id, parents, reason, detail, raw)."""
    if any(batch.num_rows for batch in _with_ids(path, ids, ("id",))):
        for batch in _with_ids(path, ids, ("id", "parents", "reason", "detail", "raw")):
            yield from batch.to_pylist()


def inputs_among(path: str, ids: Collection[str]) -> set[str]:
    """Return those of `ids` that the part accounts for; its metadata is searched as text."""
    fs, name = files.filesystem(path)
    try:
        with fs.open(name, "rb") as file:
            meta = (pa.ipc.open_stream(file).schema.metadata or {}).get(META, b"")
    except FileNotFoundError:
        return set()
    return {i for i in ids if orjson.dumps(i) in meta}


def requests_of(path: str, ids: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield a log's records of some rows; only lines with one of the ids are parsed, damaged ones skipped."""
    # Quotes inside a text are escaped in JSON, so this matches real "row" keys only.
    needle = re.compile(b'"row":(?:' + b"|".join(re.escape(orjson.dumps(i)) for i in sorted(ids)) + b")")
    for line in _lines_with(path, needle):
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict) and record.get("row") in ids and "key" in record:
            yield record


def _with_ids(path: str, ids: Collection[str], columns: Collection[str]) -> Iterator[pa.RecordBatch]:
    wanted = pa.array(ids, pa.string())
    for batch in read_columns(path, columns):
        yield batch.filter(pc.is_in(batch["id"], value_set=wanted))


def _refs(path: str, batch: pa.RecordBatch) -> Iterator[RowRef]:
    for i, parents in zip(batch["id"].to_pylist(), batch["parents"].to_pylist(), strict=True):
        yield RowRef(path, i, parents)


def _lines_with(path: str, needle: re.Pattern[bytes]) -> Iterator[bytes]:
    fs, name = files.filesystem(path)
    if not files.is_local(path):
        with fs.open(name, "rb") as file:
            yield from (line for line in file if needle.search(line))
        return
    with open(name, "rb") as file:
        if not file.seek(0, 2):
            return  # an empty file cannot be mapped
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            at = 0
            while match := needle.search(text, at):
                begin, end = text.rfind(b"\n", 0, match.start()) + 1, text.find(b"\n", match.end())
                at = len(text) if end < 0 else end + 1
                yield text[begin:at]
