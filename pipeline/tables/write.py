"""Writes a table to a file, or to a folder that `datasets` reads: in batches, and complete or absent."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.errors import ConfigError
from pipeline.store import files
from pipeline.tables.columns import Table

ROW_GROUP, ROW_GROUP_BYTES = 10_000, 64 << 20  # of a Parquet file, at most
MARKER = "dataset_dict.json"  # `datasets` writes it: a folder with it may be replaced
# What a spreadsheet takes for a formula, and what only looks like one.
FORMULA, NUMBER = r"^[=+\-@\t\r]", r"^[+-]?\d+([.,]\d+)*%?$"


def format_of(target: str) -> str:
    """Return the format that a path asks for, "folder" for one without an ending. Raises ConfigError."""
    if not target.strip():
        raise ConfigError("--to is empty (an unset variable?): give a file or a folder.")
    if target.endswith("/") or Path(target).is_dir():
        return "folder"
    ending = Path(target).suffix
    format_ = "folder" if not ending else {".ndjson": "jsonl"}.get(ending, ending[1:])
    if format_ not in (*WRITERS, "folder"):
        known = ", ".join(f".{name}" for name in WRITERS)
        raise ConfigError(f"--to {target}: expected a file that ends in {known}, or a folder (NAME/).")
    return format_


def check_target(target: str, force: bool) -> None:
    """Raise ConfigError for a path that holds something: what may be replaced is replaced with `force`."""
    if not files.exists(target):
        return
    path = Path(target)
    if path.is_dir() and any(path.iterdir()) and not (path / MARKER).exists():
        raise ConfigError(f"--to {target}: a folder with other things in it; choose a new one.")
    if not force and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(f"--to {target} exists. Replace it with --force, or choose another name.")


def write_table(table: Table, target: str, spreadsheet: bool = False) -> tuple[int, int]:
    """Write a table in the format that `target` asks for; return its rows, and the cells of a CSV file that a
    spreadsheet would run as formulas. With `spreadsheet` these begin with an apostrophe.
    """
    format_, schema, formulas = format_of(target), table.schema(), 0
    seen = Seen(table.arrow(schema))
    if format_ == "folder":
        _folder(target, schema, seen)
    else:
        with files.atomic_write(target) as file:
            if format_ == "csv":
                formulas = csv(file, schema, seen, spreadsheet)
            else:
                WRITERS[format_](file, schema, seen)
    return seen.rows, formulas


class Seen:
    """Iterator[pa.RecordBatch], counted as they pass."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self.rows, self._batches = 0, batches

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.rows += batch.num_rows
            yield batch


def parquet(file: BinaryIO, schema: pa.Schema, batches: Any) -> None:
    """Write a Parquet file."""
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(batches):
            writer.write_table(pa.Table.from_batches(group))


def jsonl(file: BinaryIO, schema: pa.Schema, batches: Any) -> None:
    """Write a JSON object per line; every line has every column."""
    for batch in batches:
        for record in batch.to_pylist():
            file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


def csv(file: BinaryIO, schema: pa.Schema, batches: Any, spreadsheet: bool = False) -> int:
    """Write a CSV file with structs and lists as JSON; return how many cells begin like a formula."""
    flat = pa.schema([(f.name, pa.string() if pa.types.is_nested(f.type) else f.type) for f in schema])
    formulas = 0
    with pa.csv.CSVWriter(file, flat) as writer:
        for batch in batches:
            columns = [_as_json(c) if pa.types.is_nested(c.type) else c for c in batch.columns]
            for i, column in enumerate(columns):
                if pa.types.is_string(column.type):
                    hit = pc.fill_null(_formulas(column), False)
                    formulas += hit.true_count
                    if spreadsheet:
                        columns[i] = pc.if_else(hit, pc.binary_join_element_wise("'", column, ""), column)
            writer.write_batch(pa.record_batch(columns, schema=flat))
    return formulas


WRITERS: dict[str, Callable[..., Any]] = {"parquet": parquet, "jsonl": jsonl, "csv": csv}


def spool(table: Table, path: str) -> None:
    """Write a table to a local Arrow file (the streaming format, which can be mapped into memory)."""
    schema = table.schema()
    _arrow(path, schema, table.arrow(schema))


def _arrow(path: str, schema: pa.Schema, batches: Any) -> None:
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _folder(target: str, schema: pa.Schema, batches: Any) -> None:
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="selfloop-export-") as aside, files.atomic_folder(target) as new:
        _arrow(f"{aside}/rows.arrow", schema, batches)
        rows = datasets.Dataset.from_file(f"{aside}/rows.arrow")
        # By default `datasets` writes no file at all for no rows, and then cannot load the folder.
        shards = None if len(rows) else {"train": 1}
        datasets.DatasetDict({"train": rows}).save_to_disk(str(new), num_shards=shards)
        (new / "README.md").write_text(_CARD, encoding="utf-8")


# Without it, load_dataset would read the JSON files beside the data as data.
_CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: train/data-*.arrow
---
"""


def _groups(batches: Any) -> Iterator[list[pa.RecordBatch]]:
    """Yield batches in groups of the size of a Parquet row group."""
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if sum(len(b) for b in group) >= ROW_GROUP or sum(b.nbytes for b in group) >= ROW_GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _as_json(column: pa.Array) -> pa.Array:
    texts = [None if v is None else orjson.dumps(v).decode() for v in column.to_pylist()]
    return pa.array(texts, pa.string())


def _formulas(column: pa.Array) -> pa.Array:
    begins, number = (pc.match_substring_regex(column, pattern) for pattern in (FORMULA, NUMBER))
    return pc.and_not(begins, number)
