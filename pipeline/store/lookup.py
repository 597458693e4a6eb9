"""Finding rows in part files and requests in logs without reading all of them: columns are read alone, logs are scanned as bytes.

A stage may be running meanwhile: a file that is gone between the listing and the reading is passed over.
"""

import mmap
import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store import files
from pipeline.store.parts import META, damage_is_told


class Found(NamedTuple):
    """A row that was found: where, its id and its parents."""

    path: str
    id: str
    parents: list[str]


def read_columns(path: str, names: Collection[str]) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow stream with the columns `names` alone; the others are not even decompressed."""
    fs, name = files.filesystem(path)
    try:
        file = pa.memory_map(name) if files.is_local(path) else fs.open(name, "rb")
    except FileNotFoundError:
        return
    with damage_is_told(path), file:
        schema = pa.ipc.open_stream(file).schema
        wanted = [i for i, field in enumerate(schema.names) if field in names]
        file.seek(0)
        yield from pa.ipc.open_stream(file, options=pa.ipc.IpcReadOptions(included_fields=wanted))


def with_ids(path: str, ids: Collection[str]) -> Iterator[Found]:
    """Yield the rows of a part whose id is one of `ids`."""
    wanted = pa.array(sorted(ids), pa.string())
    for batch in read_columns(path, ("id", "parents")):
        yield from _founds(path, batch.filter(pc.is_in(batch["id"], value_set=wanted)))


def with_parents(path: str, ids: Collection[str]) -> Iterator[Found]:
    """Yield the rows of a part that have one of `ids` among their parents."""
    wanted = pa.array(sorted(ids), pa.string())
    for batch in read_columns(path, ("id", "parents")):
        hit = pc.is_in(pc.list_flatten(batch["parents"]), value_set=wanted)
        places = pc.unique(pc.filter(pc.list_parent_indices(batch["parents"]), hit))
        if len(places):
            yield from _founds(path, batch.take(places))


def with_prefix(path: str, prefix: str, column: str = "id") -> Iterator[str]:
    """Yield the values of `column` (ids) that begin with `prefix`."""
    for batch in read_columns(path, (column,)):
        values = batch[column]
        yield from values.filter(pc.starts_with(values, prefix)).to_pylist()


def payloads(path: str, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the payloads of some rows of a part."""
    wanted = pa.array(sorted(ids), pa.string())
    found: dict[str, dict[str, Any]] = {}
    for batch in read_columns(path, ("id", "payload")):
        chosen = batch.filter(pc.is_in(batch["id"], value_set=wanted))
        found |= {
            i: orjson.loads(p)
            for i, p in zip(chosen["id"].to_pylist(), chosen["payload"].to_pylist(), strict=True)
        }
    return found


def rejects(path: str, ids: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the rejects in a file whose id is one of `ids`, as dicts (id, parents, reason, detail, raw)."""
    wanted = pa.array(sorted(ids), pa.string())
    if not any(pc.any(pc.is_in(b["id"], value_set=wanted)).as_py() for b in read_columns(path, ("id",))):
        return
    for batch in read_columns(path, ("id", "parents", "reason", "detail", "raw")):
        yield from batch.filter(pc.is_in(batch["id"], value_set=wanted)).to_pylist()


def inputs_among(path: str, ids: Collection[str]) -> set[str]:
    """Return those of `ids` that the part accounts for: they are in its metadata, which is searched as text."""
    fs, name = files.filesystem(path)
    try:
        with fs.open(name, "rb") as file:
            meta = (pa.ipc.open_stream(file).schema.metadata or {}).get(META, b"")
    except FileNotFoundError:
        return set()
    return {i for i in ids if orjson.dumps(i) in meta}


def requests_of(path: str, ids: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield a log's records of some rows. Only lines with one of the ids are parsed; damaged ones are left out."""
    # Quotes inside a text are escaped in JSON, so this can only match where a key "row" really stands.
    needle = re.compile(b'"row":(?:' + b"|".join(re.escape(orjson.dumps(i)) for i in sorted(ids)) + b")")
    for line in _lines_with(path, needle):
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict) and record.get("row") in ids and "key" in record:
            yield record


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


def _founds(path: str, batch: pa.RecordBatch) -> Iterator[Found]:
    for i, parents in zip(batch["id"].to_pylist(), batch["parents"].to_pylist(), strict=True):
        yield Found(path, i, parents)
