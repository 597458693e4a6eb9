"""Tasks from files: JSON lines, CSV and Parquet. One bad line is one bad row; only a damaged file stops the reading."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks.content import kind
from stages.tasks.csv_rows import csv_rows
from stages.tasks.paths import MAX_LINE, Line, find_files, lines, not_utf8, open_file
from stages.tasks.records import BadRow, RawRow, Written, no_duplicates


def jsonl(source: Source, seed: int) -> Iterator[RawRow | BadRow]:
    """Yield the objects of JSON-lines files (.jsonl, .ndjson; also compressed). Blank lines are passed over."""
    _check_options(source, ())
    for path in find_files(source.path, "jsonl", (".jsonl", ".ndjson")):
        with open_file(path) as f:
            for line in lines(f):
                if line.data.strip():
                    yield _json_row(path, line)


def csv(source: Source, seed: int) -> Iterator[RawRow | BadRow]:
    """Yield the records of CSV files, whose first line names the columns.

    Options: `delimiter` (default a comma; a tab for .tsv), `header` (list of column names, for a file without a header line).
    """
    _check_options(source, ("delimiter", "header"))
    for path in find_files(source.path, "csv", (".csv", ".tsv")):
        with open_file(path) as f:
            yield from csv_rows(path, lines(f), source)


def parquet(source: Source, seed: int) -> Iterator[RawRow | BadRow]:
    """Yield the rows of Parquet files; `where` counts rows from 1."""
    _check_options(source, ())
    for path in find_files(source.path, "parquet", (".parquet",)):
        with open_file(path) as f:
            try:
                table = pq.ParquetFile(f)
                no_duplicates(path, table.schema_arrow.names)
                batches = table.iter_batches(1024)
                rows = (row for batch in batches for row in batch.to_pylist())
                for number, row in enumerate(rows, 1):
                    yield RawRow(f"{path}:{number}", row)
            except pa.ArrowException as e:
                raise DataError(f"{path}: not a readable Parquet file: {e}") from e


def _json_row(path: str, line: Line) -> RawRow | BadRow:
    where = f"{path}:{line.number}"
    raw = line.data.decode("utf-8", "backslashreplace")
    if line.too_long:
        return BadRow(
            where, f"a line of more than {MAX_LINE >> 20} MiB; expected one JSON object a line", raw
        )
    try:
        value = _DECODER.decode(line.data.decode("utf-8"))
    except UnicodeDecodeError as e:
        return BadRow(where, not_utf8(path, line, e), raw)
    except json.JSONDecodeError as e:
        torn = (
            ""
            if line.ended
            else "; the last line has no line end: was the file written, or copied, to its end?"
        )
        return BadRow(where, f"invalid JSON at column {e.pos + 1}: {e.msg}{torn}", raw)
    except ValueError as e:
        return BadRow(where, str(e), raw)
    except RecursionError:
        return BadRow(where, "JSON nested too deeply", raw)
    if not isinstance(value, dict):
        return BadRow(where, f"expected a JSON object with named columns, got {kind(value)}", raw)
    return RawRow(where, value)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twin = next(k for i, (k, _) in enumerate(pairs) if k in dict(pairs[:i]))
        raise ValueError(f"the key {twin!r} stands twice in one object")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON; write a number or a text")


_DECODER = json.JSONDecoder(
    parse_int=Written, parse_float=Written, parse_constant=_no_constant, object_pairs_hook=_no_twins
)


def _check_options(source: Source, known: tuple[str, ...]) -> None:
    if unknown := sorted(set(source.options) - set(known)):
        raise DataError(
            f"source {source.source}: unknown options {', '.join(unknown)}; known: {', '.join(known) or 'none'}."
        )
