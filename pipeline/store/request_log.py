"""The request log: every finished request, durable before the row that asked. Append-only, one writer per file.

A line is a JSON object. What a kill left half-written is a line that does not parse: it is counted and left out, and the
request is sent again. A resumed stage writes to a new file, so no file ever has two writers (safe on NFS and the like).
"""

import os
import threading
import time
from collections.abc import Container, Iterator
from typing import Any, NamedTuple

import orjson

from pipeline.store import files


class RequestLogWriter:
    """Appends records to one new file of its own.

    A record has left this process when `append` returns (local paths), so that a kill of the process does not lose it;
    it is on disk, safe from a crash of the machine, within `sync_seconds`. On object stores, which cannot append,
    records are put as numbered objects every `sync_seconds`.
    """

    def __init__(self, folder: str, name: str, sync_seconds: float = 1.0) -> None:
        self._folder, self._name, self._every = folder, name, sync_seconds
        self._local = files.is_local(folder)
        self._buffer: list[bytes] = []
        self._segment = 0
        self._dirty = False
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._fd = -1
        if self._local:
            path = files.filesystem(folder)[1]
            os.makedirs(path, exist_ok=True)
            self._fd = os.open(
                f"{path}/{name}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644
            )
            files.sync_folder(path)
        self._stop = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._sync_loop, daemon=True)
        self._thread.start()

    def append(self, record: dict[str, Any]) -> None:
        """Append one record. Raises OSError when the disk refuses it (now, or at the last sync)."""
        if self._error:
            raise self._error
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        if self._local:
            try:
                while line:  # a write to a nearly full disk may be short; the next one then says why
                    line = line[os.write(self._fd, line) :]
            except OSError as e:  # the file may end in half a line now: nothing may be appended to that
                self._error = e
                raise
        else:
            with self._lock:
                self._buffer.append(line)
        self._dirty = True

    def sync(self) -> None:
        """Make everything appended so far durable. Raises OSError when that failed, now or before."""
        with (
            self._syncing
        ):  # a sync that another thread has begun has to end before this one may say that all is durable
            if self._error:
                raise self._error
            if not self._dirty:
                return
            self._dirty = False
            try:
                self._store()
            except (
                Exception
            ) as e:  # shown to whoever appends or syncs next as well: the stage must not go on without a log
                # An object store's client has errors of its own, which are no OSErrors.
                self._error = (
                    e
                    if isinstance(e, OSError)
                    else OSError(
                        f"{self._folder}: the request log cannot be written: {type(e).__name__}: {e}"
                    )
                )
                raise self._error from None

    def close(self) -> None:
        """Sync and close the file."""
        self._stop.set()
        self._thread.join()
        try:
            self.sync()
        finally:
            if self._local:
                os.close(self._fd)

    def _store(self) -> None:
        if self._local:
            os.fsync(self._fd)
            return
        with self._lock:
            lines, self._buffer = self._buffer, []
        if lines:
            files.write_bytes(
                files.join(self._folder, f"{self._name}-{self._segment:06d}.jsonl"), b"".join(lines)
            )
            self._segment += 1

    def _sync_loop(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self.sync()
            except OSError:
                return


class RequestLogIndex(NamedTuple):
    """Where finished requests stand: key -> (file, offset, length); and how many lines were damaged."""

    places: dict[str, tuple[str, int, int]]
    damaged: int

    def read(self, key: str) -> dict[str, Any] | None:
        """Return the record of a key, or None when that request has not finished."""
        if key not in self.places:
            return None
        path, offset, length = self.places[key]
        fs, name = files.filesystem(path)
        with fs.open(name, "rb") as f:
            f.seek(offset)
            return orjson.loads(f.read(length))


def index(folder: str, without_rows: Container[str] = ()) -> RequestLogIndex:
    """Index the log in `folder`. Requests of the rows in `without_rows`, which are finished, are left out."""
    places: dict[str, tuple[str, int, int]] = {}
    damaged = 0
    for path, offset, line in _lines(folder):
        record = _parse(line)
        if record is None:
            damaged += 1
        elif record["row"] not in without_rows:
            places[record["key"]] = (path, offset, len(line))
    return RequestLogIndex(places, damaged)


def records(folder: str, rows: Container[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the log's records, of `rows` only if given; damaged lines are left out."""
    for _, _, line in _lines(folder):
        record = _parse(line)
        if record is not None and (rows is None or record["row"] in rows):
            yield record


def _lines(folder: str) -> Iterator[tuple[str, int, bytes]]:
    for path in files.glob(folder, "*.jsonl"):
        fs, name = files.filesystem(path)
        offset = 0
        with fs.open(name, "rb") as f:
            for line in f:
                yield path, offset, line
                offset += len(line)


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and "key" in record and "row" in record else None


def now() -> float:
    """Seconds since the epoch, to the millisecond, as records carry them."""
    return round(time.time(), 3)
