"""Files that are either whole or not there: written aside, synced, renamed. Any fsspec path; local paths are synced to disk."""

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

_WRITING = ".writing"


def filesystem(path: str) -> tuple[Any, str]:
    """Return the fsspec file system of `path` and the path as that file system writes it.

    Raises SelfloopError for a kind of file system that is not known, or whose package is not installed.
    """
    try:
        # Other processes write here too: a cached listing would hide their parts.
        return fsspec.core.url_to_fs(str(path), use_listings_cache=False)
    except (ImportError, ValueError) as e:
        raise SelfloopError(
            f"{path}: {e}. Paths are local ones, or URLs that fsspec knows (for s3:// install s3fs)."
        ) from None


def is_local(path: str) -> bool:
    """Tell whether `path` is on a file system this machine has mounted."""
    return isinstance(filesystem(path)[0], LocalFileSystem)


@contextmanager
def atomic_write(path: str) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes; it appears, whole and on disk, when the block ends, and not at all if it raises."""
    fs, name = filesystem(path)
    if not isinstance(fs, LocalFileSystem):
        whole = io.BytesIO()  # closing a remote file would store what there is, even after an error
        yield whole
        fs.pipe_file(name, whole.getvalue())
        return
    aside = f"{name}.{uuid.uuid4().hex[:8]}.tmp"
    os.makedirs(os.path.dirname(name), exist_ok=True)
    try:
        with open(aside, "wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(aside, name)
    except BaseException:
        if os.path.exists(aside):
            os.unlink(aside)
        raise
    sync_folder(os.path.dirname(name))


def sync_folder(name: str) -> None:
    """Make the names in a local folder durable."""
    handle = os.open(name, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a folder to write into that becomes the local folder `path`, replacing it, when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    aside.mkdir()
    try:
        with _held(aside):
            yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                with open(file, "rb") as f:
                    os.fsync(f.fileno())
            else:
                sync_folder(str(file))
        sync_folder(str(aside))
        if path.exists():
            old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
            path.rename(old)
            aside.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            aside.rename(path)
        sync_folder(str(path.parent))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Have a locked file in a folder while it is written to; the kernel lets go of it however this process ends."""
    with open(folder / _WRITING, "w") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
        (folder / _WRITING).unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove what killed processes left of `path`, half written or on its way out: of a model these are gigabytes."""
    for left in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        with (
            suppress(OSError),
            open(left / _WRITING) as file,
        ):  # without that file: it has been written, and is about to be moved
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody writes there any more
            shutil.rmtree(left, ignore_errors=True)
    if path.exists():
        for left in path.parent.glob(f".{escape(path.name)}.*.old"):
            shutil.rmtree(left, ignore_errors=True)


def write_bytes(path: str, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_write(path) as f:
        f.write(data)


def write_json(path: str, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_bytes(
        path,
        orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
        + b"\n",
    )


def read_bytes(path: str) -> bytes:
    """Return a file's content. Raises FileNotFoundError."""
    fs, name = filesystem(path)
    with fs.open(name, "rb") as f:
        return f.read()


def read_json(path: str) -> Any:
    """Return a JSON file's value. Raises FileNotFoundError, and DamagedError for what is no JSON."""
    try:
        return orjson.loads(read_bytes(path))
    except orjson.JSONDecodeError as e:
        raise DamagedError.of(path, f"damaged, it is no JSON ({e})") from None


def exists(path: str) -> bool:
    """Tell whether there is something at `path`."""
    fs, name = filesystem(path)
    return fs.exists(name)


def glob(folder: str, pattern: str) -> list[str]:
    """Return the files in `folder` (not below it) that match, sorted; [] when there is no such folder."""
    fs, name = filesystem(folder)
    try:
        found = fs.ls(name, detail=False)
    except FileNotFoundError:
        return []
    # Not fs.glob: it would read a folder called "run[1]" as a pattern as well, and find none of its files.
    found = [p for p in found if fnmatchcase(p.rstrip("/").rsplit("/", 1)[1], pattern)]
    return sorted(p if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(p) for p in found)


def remove(path: str) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    fs, name = filesystem(path)
    if fs.exists(name):
        fs.rm(name, recursive=True)


def join(*parts: str) -> str:
    """Join path parts, for local paths and URLs alike."""
    return "/".join([parts[0].rstrip("/"), *(p.strip("/") for p in parts[1:])])
