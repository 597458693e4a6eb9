"""The request log: every finished request, durable before the row that sent it. Append-only.

Each line is a JSON object. `append` hands it to the operating system before it returns, so a killed process
loses no finished request; a thread syncs the file every `sync_seconds`, which bounds what a power cut can
lose; and a worker syncs before it commits a part. A kill can leave half a line at the end: it does not parse,
is counted and skipped, and its request is sent again. Every worker opens a new file, also in a resumed stage,
so that no file ever has two writers, even on NFS. Object stores cannot append: there, records are put as
numbered objects every `sync_seconds`, and a kill loses those not put yet.
"""

import os
import threading
from collections.abc import Container, Iterator
from typing import Any, NamedTuple

import orjson

from pipeline.store import files

# Folders of a stage: its log, and logs of another run's same stage, whose replies are taken over as needed.
REQUESTS, ANSWERED = "requests", "answered"


class RequestLogWriter:
    """Appends records to a new file. Once a write or sync has failed, every later call raises its OSError."""

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
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self._fd = os.open(f"{path}/{name}.jsonl", flags, 0o644)
            files.sync_folder(path)
        self._stop = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._sync_loop, daemon=True)
        self._thread.start()

    def append(self, record: dict[str, Any]) -> None:
        """Append one record."""
        if self._error:
            raise self._error
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        if self._local:
            try:
                while line:  # on a nearly full disk a write may be short; the next one then raises
                    line = line[os.write(self._fd, line) :]
            except OSError as e:  # the file may end in half a line: nothing may be appended to it
                self._error = e
                raise
        else:
            with self._lock:
                self._buffer.append(line)
        self._dirty = True

    def sync(self) -> None:
        """Make everything appended so far durable."""
        with self._syncing:  # a sync in progress in the other thread must finish first
            if self._error:
                raise self._error
            if not self._dirty:
                return
            self._dirty = False
            try:
                self._store()
            except Exception as e:  # an object store's client raises errors of its own
                why = f"{self._folder}: the request log cannot be written: {type(e).__name__}: {e}"
                self._error = e if isinstance(e, OSError) else OSError(why)
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
            path = files.join(self._folder, f"{self._name}-{self._segment:06d}.jsonl")
            files.write_bytes(path, b"".join(lines))
            self._segment += 1

    def _sync_loop(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self.sync()
            except OSError:
                return


class RequestLogIndex(NamedTuple):
    """Where finished requests are stored: key -> (file, offset, length); and how many lines were damaged."""

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
    """Index the log in `folder`, except for the requests of the finished rows `without_rows`."""
    places: dict[str, tuple[str, int, int]] = {}
    damaged = 0
    for path, offset, line in _lines(folder):
        record = _parse(line)
        if record is None:
            damaged += 1
        elif record["row"] not in without_rows:
            places[record["key"]] = (path, offset, len(line))
    return RequestLogIndex(places, damaged)


def records(folder: str) -> Iterator[dict[str, Any]]:
    """Yield the log's records; damaged lines are skipped."""
    yield from filter(None, (_parse(line) for _, _, line in _lines(folder)))


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
