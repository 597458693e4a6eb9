"""From a path, glob or folder (any fsspec path) to its files and their lines; decompresses by file name."""

import gzip
import io
import lzma
import os
import posixpath
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline import places
from pipeline.errors import DataError, suggest
from stages.tasks.records import RAW_CHARS

BOM = b"\xef\xbb\xbf"  # spreadsheets write one at the start of UTF-8 files
MAX_LINE = 64 * 2**20  # bytes; a longer line means a file without line ends
COMPRESSED = ("", ".gz", ".bz2", ".xz", ".zst")
_GLOB = frozenset("*?[")


class Line(NamedTuple):
    """One line of a file: its number (from 1), the offset of its first byte, and its bytes.

    `ended`: a line end closed it; `too_long`: it exceeded MAX_LINE and is truncated.
    """

    number: int
    offset: int
    data: bytes
    ended: bool
    too_long: bool


def find_files(path: str | None, kind: str, extensions: tuple[str, ...]) -> list[str]:
    """Return the files at `path` (a file, a glob, or a folder with files of these extensions), sorted.

    "data/..." falls back to the files that ship with selfloop. Raises DataError, with the nearest name, when
    nothing is there.
    """
    if not path:
        raise DataError(
            f"source {kind} needs a path: a file, a glob such as data/*{extensions[0]}, or a folder."
        )
    try:
        fs, name = fsspec.core.url_to_fs(path)
        shipped = str(places.data(path)) if path.startswith("data/") else ""
        if shipped and not _matches(fs, name) and _matches(fs, shipped):
            path = name = shipped
        if fs.isdir(name):
            endings = tuple(e + c for e in extensions for c in COMPRESSED)
            files = [f for f in fs.ls(name, detail=False) if f.endswith(endings)]
            if not files:
                raise DataError(
                    f"{path}: no file in this folder ends in {' or '.join(extensions)} (or that with .gz). "
                    f"{_listing(fs, name)}"
                )
        elif fs.exists(name):
            return [path]
        else:
            files = _matches(fs, name)
            if not files:
                raise DataError(_not_found(fs, name, path))
    except (OSError, ValueError, ImportError) as e:  # no permission, or an unknown or missing file system
        raise DataError(f"{path}: cannot be read: {e}") from e
    if not isinstance(fs, LocalFileSystem):
        return sorted(fs.unstrip_protocol(f) for f in files)
    # url_to_fs makes paths absolute; name the files the way the recipe does.
    prefix = name.removesuffix(path) if name.endswith(path) else ""
    return sorted(f.removeprefix(prefix) for f in files)


@contextmanager
def open_file(path: str) -> Iterator[BinaryIO]:
    """Open `path` for reading, decompressed by its name. Read errors become a DataError that names it."""
    try:
        with fsspec.open(path, "rb", compression="infer") as f:
            yield f
    except (OSError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as e:
        raise DataError(
            f"{path}: cannot be read to its end: {e}. Is the file damaged, or still being written?"
        ) from e


def lines(f: BinaryIO) -> Iterator[Line]:
    """Yield the lines of `f` without line feeds and byte order mark, holding at most MAX_LINE bytes."""
    reader, number, offset = io.BufferedReader(cast(io.RawIOBase, f)), 0, 0
    while data := reader.readline(MAX_LINE + 1):
        number, start, offset = number + 1, offset, offset + len(data)
        if number == 1 and data.startswith(BOM):
            data, start = data.removeprefix(BOM), len(BOM)
        too_long = len(data) > MAX_LINE
        tail = data
        while not tail.endswith(b"\n") and (tail := reader.readline(MAX_LINE)):
            offset += len(tail)
        kept = data[:RAW_CHARS] if too_long else data.removesuffix(b"\n")
        yield Line(number, start, kept, data.endswith(b"\n"), too_long)


def not_utf8(path: str, line: Line, error: UnicodeDecodeError) -> str:
    """Describe which byte of the file is not UTF-8, and what the file may be instead."""
    if line.number == 1 and line.data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return f"not UTF-8 but UTF-16, by its first bytes; convert it: iconv -f UTF-16 -t UTF-8 {path}"
    byte, offset = line.data[error.start], line.offset + error.start
    return (
        f"not UTF-8: byte 0x{byte:02x} at offset {offset} of the file (byte {error.start + 1} of the line); "
        "save the file as UTF-8"
    )


def _matches(fs: fsspec.AbstractFileSystem, name: str) -> list[str]:
    """Return `name` itself if it exists, else the files that match it as a glob."""
    if fs.exists(name):
        return [name]
    return [f for f in fs.glob(name) if not fs.isdir(f)] if _GLOB & set(name) else []


def _not_found(fs: fsspec.AbstractFileSystem, name: str, path: str) -> str:
    pattern = bool(_GLOB & set(name))
    what = "no file matches this pattern" if pattern else "no such file or folder"
    if path.startswith("data/"):
        what += f", neither in {os.getcwd()} nor among selfloop's own files in {places.data('')}"
    folder, wanted = posixpath.split(name)
    return f"{path}: {what}. {_listing(fs, folder, '' if pattern else wanted)}"


def _listing(fs: fsspec.AbstractFileSystem, folder: str, wanted: str = "") -> str:
    """Suggest the nearest name in a folder, else list what it holds."""
    if not fs.isdir(folder):
        return f"The folder {folder or '.'} does not exist either."
    names = sorted(posixpath.basename(f.rstrip("/")) for f in fs.ls(folder, detail=False))
    if hint := suggest(wanted, names):
        return hint.strip()
    shown = ", ".join(map(repr, names[:8])) + (" ..." if len(names) > 8 else "")
    return f"In {folder} there are: {shown}." if names else f"{folder} is empty."
