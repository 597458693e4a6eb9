"""SQL over tables, by DuckDB: in memory, without access to files or the network, and without extensions."""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import ConfigError, SelfloopError, suggest
from pipeline.tables.columns import Table
from pipeline.tables.write import spool

READS = ("SELECT", "EXPLAIN", "MULTI")  # DuckDB's kinds of statements; MULTI: PIVOT


@contextmanager
def answered(sql: str, names: list[str], table: Callable[[str], Table]) -> Iterator[Any]:
    """Yield DuckDB's result of one SELECT over the tables `names`, of which those that it mentions are made.

    Raises ConfigError for other statements, and for what DuckDB refuses.
    """
    try:
        import duckdb
    except ImportError:
        raise SelfloopError("selfloop query needs the package duckdb: pip install duckdb") from None
    _check(duckdb, sql)
    with tempfile.TemporaryDirectory(prefix="selfloop-query-") as aside:
        limits: dict[str, Any] = {"enable_external_access": "false", "temp_directory": f"{aside}/spilled"}
        with duckdb.connect(":memory:", config=limits) as connection:
            for name in mentioned(sql, names):
                path = str(Path(aside) / f"{len(list(Path(aside).iterdir()))}.arrow")
                spool(table(name), path)
                with pa.memory_map(path) as file:
                    connection.register(name, pa.ipc.open_stream(file).read_all())
            # Python variables are no tables, and no statement may change any of this.
            connection.execute("SET python_enable_replacements = false")
            connection.execute("SET lock_configuration = true")
            try:
                yield connection.execute(sql)
            except duckdb.Error as e:
                raise ConfigError(_explained(e, names)) from None


def mentioned(sql: str, names: list[str]) -> list[str]:
    """Return the names that occur as words in a statement, whatever they mean there."""
    return [n for n in names if re.search(rf"(?<![\w-]){re.escape(n)}(?![\w-])", sql, re.IGNORECASE)]


def _check(duckdb: Any, sql: str) -> None:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as e:
        raise ConfigError(_explained(e)) from None
    kinds = [s.type.name for s in statements]
    if len(kinds) != 1 or kinds[0] not in READS:
        given = ", ".join(kinds) or "none"
        raise ConfigError(f"expected one SELECT statement, got {given}. A run is only read, never changed.")


def _explained(error: Exception, names: Sequence[str] = ()) -> str:
    """Return DuckDB's message without the place in the statement, or that there is no such table."""
    text = f"SQL: {str(error).partition('LINE 1:')[0].strip()}"
    if not (unknown := re.search(r"Table with name (.+?) does not exist", text)):
        return text
    near = suggest(unknown[1], names)
    return f"SQL: there is no table {unknown[1]}.{near} Tables here: {', '.join(names)}."
