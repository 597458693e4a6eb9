"""From a path, glob or folder to its files and their lines. Any fsspec path; compressed files are read as they are."""

import gzip
import io
import lzma
import posixpath
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import DataError, suggest
from stages.tasks.records import RAW_CHARS

BOM = b"\xef\xbb\xbf"  # spreadsheets put it before UTF-8
MAX_LINE = 64 * 2**20  # bytes; a longer line is no task, but a file without line ends
COMPRESSED = ("", ".gz", ".bz2", ".xz", ".zst")
_GLOB = frozenset("*?[")


class Line(NamedTuple):
    """One line of a file: its number (from 1), the offset of its first byte, its bytes, and whether a line end closed it.

    Of a line over MAX_LINE only the beginning is kept, with `too_long` set."""

    number: int
    offset: int
    data: bytes
    ended: bool
    too_long: bool


def find_files(path: str | None, kind: str, extensions: tuple[str, ...]) -> list[str]:
    """Return the files at `path` (a file, a glob, or a folder with files of these extensions), sorted.

    Raises DataError when there are none, with the nearest name there is.
    """
    if not path:
        raise DataError(
            f"source {kind} needs a path: a file, a glob such as data/*{extensions[0]}, or a folder."
        )
    try:
        fs, name = fsspec.core.url_to_fs(path)
        if not fs.exists(name):
            found = fs.glob(name) if _GLOB & set(name) else []
            files = [f for f in found if not fs.isdir(f)]
            if not files:
                raise DataError(_not_found(fs, name, path))
        elif fs.isdir(name):
            files = [
                f
                for f in fs.ls(name, detail=False)
                if f.endswith(tuple(e + c for e in extensions for c in COMPRESSED))
            ]
            if not files:
                raise DataError(
                    f"{path}: no file in this folder ends in {' or '.join(extensions)} (or that with .gz). {_there(fs, name)}"
                )
        else:
            return [path]
    except (
        OSError,
        ValueError,
        ImportError,
    ) as e:  # no permission, unknown protocol, a file system that is not installed
        raise DataError(f"{path}: cannot be read: {e}") from e
    prefix = name.removesuffix(
        path
    )  # put there by url_to_fs; without it a file is named the way the person wrote it
    if not isinstance(fs, LocalFileSystem):
        return sorted(fs.unstrip_protocol(f) for f in files)
    return sorted(f.removeprefix(prefix) if name != path and name.endswith(path) else f for f in files)


@contextmanager
def open_file(path: str) -> Iterator[BinaryIO]:
    """Open `path` for reading bytes, decompressed by its name. What goes wrong inside becomes a DataError that names it."""
    try:
        with fsspec.open(path, "rb", compression="infer") as f:
            yield f
    except (OSError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as e:
        raise DataError(
            f"{path}: cannot be read to its end: {e}. Is the file damaged, or still being written?"
        ) from e


def lines(f: BinaryIO) -> Iterator[Line]:
    """Yield the lines of `f`, without line feeds and byte order mark, never holding more than one line of at most MAX_LINE bytes."""
    reader, number, offset = io.BufferedReader(f), 0, 0
    while data := reader.readline(MAX_LINE + 1):
        number, start, offset = number + 1, offset, offset + len(data)
        if number == 1 and data.startswith(BOM):
            data, start = data.removeprefix(BOM), len(BOM)
        too_long = len(data) > MAX_LINE
        tail = data
        while not tail.endswith(b"\n") and (tail := reader.readline(MAX_LINE)):
            offset += len(tail)
        yield Line(
            number,
            start,
            data[:RAW_CHARS] if too_long else data.removesuffix(b"\n"),
            data.endswith(b"\n"),
            too_long,
        )


def not_utf8(path: str, line: Line, error: UnicodeDecodeError) -> str:
    """Say which byte of the file is not UTF-8, and what the file may be instead."""
    if line.number == 1 and line.data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return f"not UTF-8 but UTF-16, by its first bytes; convert it: iconv -f UTF-16 -t UTF-8 {path}"
    byte, offset = line.data[error.start], line.offset + error.start
    return f"not UTF-8: byte 0x{byte:02x} at offset {offset} of the file (byte {error.start + 1} of the line); save the file as UTF-8"


def _not_found(fs: fsspec.AbstractFileSystem, name: str, path: str) -> str:
    if _GLOB & set(name):
        return f"{path}: no file matches this pattern. {_there(fs, name.rsplit('/', 1)[0])}"
    return f"{path}: no such file or folder. {_there(fs, posixpath.dirname(name), posixpath.basename(name))}"


def _there(fs: fsspec.AbstractFileSystem, folder: str, wanted: str = "") -> str:
    if not fs.isdir(folder):
        return f"The folder {folder or '.'} does not exist either."
    there = sorted(posixpath.basename(f.rstrip("/")) for f in fs.ls(folder, detail=False))
    if hint := suggest(wanted, there):
        return hint.strip()
    shown = ", ".join(map(repr, there[:8])) + (" ..." if len(there) > 8 else "")
    return f"In {folder} there are: {shown}." if there else f"{folder} is empty."
