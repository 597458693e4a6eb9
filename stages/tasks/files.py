"""Tasks from JSON-lines, CSV and Parquet files. A bad line is one bad row; a damaged file is an error."""

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks.arrow_rows import rows_of
from stages.tasks.columns import top_level
from stages.tasks.csv_rows import csv_rows
from stages.tasks.paths import MAX_LINE, Line, find_files, lines, not_utf8, open_file
from stages.tasks.records import BadRow, RawRow, Unreadable, Written, check_header
from stages.tasks.texts import json_type


def jsonl(source: Source, seed: int) -> Iterator[RawRow | BadRow]:
    """Yield the objects of JSON-lines files (.jsonl, .ndjson, also compressed), skipping blank lines."""
    check_options(source, ())
    for path in find_files(source.path, "jsonl", (".jsonl", ".ndjson")):
        with open_file(path) as f:
            yield from json_lines(path, lines(f))


def json_lines(path: str, there: Iterator[Line]) -> Iterator[RawRow | BadRow]:
    """Yield the objects of the lines of one file. Raises DataError if the file is one JSON array."""
    first = True
    for line in there:
        if not line.data.strip():
            continue
        if first and _ARRAY.match(line.data):
            raise DataError(
                f"{path}: one JSON array, not a JSON object per line. Read it with source: hf, or write "
                f"lines: jq -c '.[]' {path} > lines.jsonl"
            )
        first = False
        yield _json_row(path, line)


def json_file(path: str, used: Collection[str], field: str | None = None) -> Iterator[RawRow | BadRow]:
    """Yield the objects of a file that holds one JSON array, which may be that of a `field` of one object.

    A file with an object per line is read as such, and one object with a column that is `used` is one row.
    Raises DataError for anything else.
    """
    with open_file(path) as f:
        first = next((line.data for line in lines(f) if line.data.strip()), b"")
    if field is None and not _ARRAY.match(first) and _is_object(first):
        with open_file(path) as f:
            yield from json_lines(path, lines(f))
        return
    with open_file(path) as f:
        data = f.read()
    try:
        items = _DECODER.decode(data.decode("utf-8-sig")) if data.strip() else []
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as e:
        raise DataError(f"{path}: neither a JSON array nor a JSON object per line: {e}") from e
    if isinstance(items, dict):
        lists = [name for name, value in items.items() if isinstance(value, list)]
        if field is None and (not lists or not set(used).isdisjoint(items)):
            yield RawRow(path, items)
            return
        if field not in lists:
            there = ", ".join(map(repr, lists)) or "none"
            raise DataError(
                f"{path}: one JSON object; its lists are: {there}. Set options.field to the rows."
            )
        items = items[field]
    elif field is not None or not isinstance(items, list):
        raise DataError(f"{path}: {json_type(items)}; expected an array of objects.")
    for number, item in enumerate(items, 1):
        where = f"{path}, item {number}"
        if isinstance(item, dict):
            yield RawRow(where, item)
        else:
            problem = f"expected a JSON object with named columns, got {json_type(item)}"
            yield BadRow(where, problem, str(item))


def csv(source: Source, seed: int) -> Iterator[RawRow | BadRow]:
    """Yield the records of CSV files, whose first line names the columns.

    Options: `delimiter` (a comma by default, a tab for .tsv), `quote` (the double quote by default; none if
    quotes are part of the text), and `header`, the column names of a file without a header line.
    """
    check_options(source, ("delimiter", "header", "quote"))
    for path in find_files(source.path, "csv", (".csv", ".tsv")):
        with open_file(path) as f:
            yield from csv_rows(path, lines(f), source)


def parquet(source: Source, seed: int) -> Iterator[RawRow | BadRow]:
    """Yield the rows of Parquet files, numbered from 1."""
    check_options(source, ())
    for path in find_files(source.path, "parquet", (".parquet",)):
        with open_file(path) as f:
            try:
                table = pq.ParquetFile(f)
                check_header(path, table.schema_arrow.names, top_level(source))
                rows = (row for batch in table.iter_batches(1024) for row in rows_of(batch))
                for number, row in enumerate(rows, 1):
                    yield RawRow(f"{path}:{number}", row)
            except pa.ArrowException as e:
                raise DataError(f"{path}: not a readable Parquet file: {e}") from e


def _json_row(path: str, line: Line) -> RawRow | BadRow:
    where = f"{path}:{line.number}"
    problem = f"a line longer than {MAX_LINE >> 20} MiB; expected one JSON object per line"
    try:
        if not line.too_long:
            value = _DECODER.decode(line.data.decode("utf-8"))
            if isinstance(value, dict):
                return RawRow(where, value)
            problem = f"expected a JSON object with named columns, got {json_type(value)}"
    except UnicodeDecodeError as e:
        problem = not_utf8(path, line, e)
    except json.JSONDecodeError as e:
        problem = f"invalid JSON at column {e.pos + 1}: {e.msg}"
        if b"\r" in line.data.strip():
            problem += rf"; lines that end in CR only? Convert them: tr '\r' '\n' < {path} > lines.jsonl"
        elif not line.ended:
            problem += "; the last line has no line end: was the file written or copied completely?"
    except RecursionError:
        problem = "JSON nested too deeply"
    return BadRow(where, problem, line.data.decode("utf-8", "backslashreplace"))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(_DECODER.decode(line.decode("utf-8")), dict)
    except (ValueError, RecursionError):
        return False


_ARRAY = re.compile(rb"\s*\[\s*(?:\{|$)")  # the first line of a JSON array of objects


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        twins = {key for key in keys if keys.count(key) > 1}
        value |= {key: Unreadable(f"the key {key!r} occurs twice in one object") for key in twins}
    return value


def _no_constant(name: str) -> Unreadable:
    return Unreadable(f"{name} is not JSON; write a number or a text")


_DECODER = json.JSONDecoder(
    parse_int=Written, parse_float=Written, parse_constant=_no_constant, object_pairs_hook=_object
)


def check_options(source: Source, known: tuple[str, ...]) -> None:
    """Raise DataError for options that the source does not have."""
    if unknown := sorted(set(source.options) - set(known)):
        unknown_names, known_names = ", ".join(unknown), ", ".join(known) or "none"
        raise DataError(f"source {source.source}: unknown options {unknown_names}; known: {known_names}.")
