"""Files and folders that are complete or absent, on any fsspec file system.

A local file is written under a temporary name beside its target, synced, renamed over it, and the rename is
synced through the parent folder: after a kill or a power cut, readers see the old content or the new, never
half of it. A kill leaves at most `NAME.*.tmp`, which no reader's pattern matches. Object stores give the same
guarantee for one put. Folders (`atomic_folder`) are local only.
"""

import fcntl
import io
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import orjson
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import DamagedError, SelfloopError

_WRITING = ".writing"  # locked by the process that writes the folder


def filesystem(path: str) -> tuple[Any, str]:
    """Return the fsspec file system of `path`, and the path in that file system's form.

    Raises SelfloopError for an unknown protocol, or one whose package is not installed.
    """
    try:
        # Other processes write here too: a cached listing would hide their parts.
        return fsspec.core.url_to_fs(str(path), use_listings_cache=False)
    except (ImportError, ValueError) as e:
        hint = "Give a local path, or a URL that fsspec knows (for s3:// install s3fs)."
        raise SelfloopError(f"{path}: {e}. {hint}") from None


def is_local(path: str) -> bool:
    """Tell whether `path` is on a mounted file system."""
    return isinstance(filesystem(path)[0], LocalFileSystem)


@contextmanager
def atomic_write(path: str) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes; when the block ends without an error it appears, complete and synced."""
    fs, name = filesystem(path)
    if not isinstance(fs, LocalFileSystem):
        buffer = io.BytesIO()  # closing a remote file would store its content, even after an error
        yield buffer
        fs.pipe_file(name, buffer.getvalue())
        return
    temporary = f"{name}.{uuid.uuid4().hex[:8]}.tmp"
    os.makedirs(os.path.dirname(name), exist_ok=True)
    try:
        with open(temporary, "wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, name)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(os.path.dirname(name))


def sync_folder(name: str) -> None:
    """Make the entries of a local folder durable."""
    handle = os.open(name, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link(source: Path, target: Path) -> None:
    """Hard-link a file or all files of a folder, or copy them where that cannot be done."""

    def place(a: str, b: str) -> str:
        if os.path.exists(b):  # of a caller that was killed: a file that is there is whole
            return b
        try:
            os.link(a, b)
        except OSError:  # another file system, or one without links
            shutil.copy2(a, f"{b}.part")
            os.replace(f"{b}.part", b)
        return b

    if source.is_dir():
        shutil.copytree(source, target, copy_function=place, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        place(str(source), str(target))


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a folder to fill; when the block ends without an error it becomes the local folder `path`.

    Everything in it is synced before the rename; a folder already at `path` is moved aside first and removed
    after. The next writer removes what a killed one left (a half-written `.NAME.*.tmp`, a replaced
    `.NAME.*.old`). A live writer holds a lock inside its folder, so that only those of dead ones are removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        with open(temporary / _WRITING, "w") as lock:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield temporary
            (temporary / _WRITING).unlink(missing_ok=True)
        for entry in (*temporary.rglob("*"), temporary):
            sync_folder(str(entry))  # a file is synced the same way
        if path.exists():
            old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
            path.rename(old)
            temporary.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(path)
        sync_folder(str(path.parent))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Remove what killed writers left of `path`; for a model that is gigabytes."""
    for folder in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        # No lock file: the folder is complete and about to be renamed.
        with suppress(OSError), open(folder / _WRITING) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    if path.exists():
        for folder in path.parent.glob(f".{escape(path.name)}.*.old"):
            shutil.rmtree(folder, ignore_errors=True)


def write_bytes(path: str, data: bytes | memoryview) -> None:
    """Write a whole file atomically."""
    with atomic_write(path) as f:
        f.write(data)


def write_json(path: str, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    write_bytes(path, orjson.dumps(value, option=options) + b"\n")


def read_bytes(path: str) -> bytes:
    """Return a file's content. Raises FileNotFoundError."""
    fs, name = filesystem(path)
    with fs.open(name, "rb") as f:
        return f.read()


def read_json(path: str) -> Any:
    """Return a JSON file's value. Raises FileNotFoundError, or DamagedError if it is not JSON."""
    try:
        return orjson.loads(read_bytes(path))
    except orjson.JSONDecodeError as e:
        raise DamagedError.of(path, f"damaged, not valid JSON ({e})") from None


def exists(path: str) -> bool:
    """Tell whether `path` is a file or folder."""
    fs, name = filesystem(path)
    return fs.exists(name)


def size(path: str) -> int:
    """Return a file's size in bytes. Raises FileNotFoundError."""
    fs, name = filesystem(path)
    return int(fs.size(name))


def glob(folder: str, pattern: str) -> list[str]:
    """Return the entries of `folder` (not below it) that match, sorted; [] if there is no such folder."""
    fs, name = filesystem(folder)
    try:
        entries = fs.ls(name, detail=False)
    except FileNotFoundError:
        return []
    # Not fs.glob, which would take a folder called "run[1]" for a pattern.
    entries = [p for p in entries if fnmatchcase(p.rstrip("/").rsplit("/", 1)[1], pattern)]
    return sorted(p if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(p) for p in entries)


def remove(path: str) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    fs, name = filesystem(path)
    if fs.exists(name):
        fs.rm(name, recursive=True)


def join(*parts: str) -> str:
    """Join path parts; works for local paths and URLs."""
    return "/".join([parts[0].rstrip("/"), *(p.strip("/") for p in parts[1:])])
