"""Tasks from JSON-lines, CSV and Parquet files. A bad line is one bad row; a damaged file is an error."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks.content import json_type
from stages.tasks.csv_rows import csv_rows
from stages.tasks.paths import MAX_LINE, Line, find_files, lines, not_utf8, open_file
from stages.tasks.records import BadRow, RawRow, Written, check_header


def jsonl(source: Source, seed: int) -> Iterator[RawRow | BadRow]:
    """Yield the objects of JSON-lines files (.jsonl, .ndjson, also compressed), skipping blank lines."""
    _check_options(source, ())
    for path in find_files(source.path, "jsonl", (".jsonl", ".ndjson")):
        with open_file(path) as f:
            yield from (_json_row(path, line) for line in lines(f) if line.data.strip())


def csv(source: Source, seed: int) -> Iterator[RawRow | BadRow]:
    """Yield the records of CSV files, whose first line names the columns.

    Options: `delimiter` (a comma by default, a tab for .tsv), and `header`, the column names of a file
    without a header line.
    """
    _check_options(source, ("delimiter", "header"))
    for path in find_files(source.path, "csv", (".csv", ".tsv")):
        with open_file(path) as f:
            yield from csv_rows(path, lines(f), source)


def parquet(source: Source, seed: int) -> Iterator[RawRow | BadRow]:
    """Yield the rows of Parquet files, numbered from 1."""
    _check_options(source, ())
    for path in find_files(source.path, "parquet", (".parquet",)):
        with open_file(path) as f:
            try:
                table = pq.ParquetFile(f)
                check_header(path, table.schema_arrow.names)
                rows = (row for batch in table.iter_batches(1024) for row in batch.to_pylist())
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
        if not line.ended:
            problem += "; the last line has no line end: was the file written or copied completely?"
    except ValueError as e:
        problem = str(e)
    except RecursionError:
        problem = "JSON nested too deeply"
    return BadRow(where, problem, line.data.decode("utf-8", "backslashreplace"))


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twin = next(k for i, (k, _) in enumerate(pairs) if k in dict(pairs[:i]))
        raise ValueError(f"the key {twin!r} occurs twice in one object")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON; write a number or a text")


_DECODER = json.JSONDecoder(
    parse_int=Written, parse_float=Written, parse_constant=_no_constant, object_pairs_hook=_no_twins
)


def _check_options(source: Source, known: tuple[str, ...]) -> None:
    if unknown := sorted(set(source.options) - set(known)):
        unknown_names, known_names = ", ".join(unknown), ", ".join(known) or "none"
        raise DataError(f"source {source.source}: unknown options {unknown_names}; known: {known_names}.")
