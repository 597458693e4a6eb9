"""Questions to a run in SQL: python -m jobs.query RUN "select reason, count(*) from dropped group by 1" """

import csv
import io
import json
import math
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Literal

import typer
from rich.table import Table as Grid
from rich.text import Text

from jobs.common import JsonOption, check_run, main, say
from jobs.showing import print_json, show, show_field
from pipeline import overview
from pipeline.console import console
from pipeline.payload import COUNT
from pipeline.printable import one_line, printable
from pipeline.rundir import RunDir
from pipeline.tables import sql as engine
from pipeline.tables import views
from pipeline.tables.columns import Record, Table
from stages.reports.table import round_figures

CELL = 200  # characters of a cell, unless shown in full
NARROW = 20  # characters that the column of a longer text should have at least
ROUNDS = "a line for each evaluated round: accuracy with its interval, what was made and trained, the cost"


def query(
    run: Annotated[str, typer.Argument(metavar="RUN", help="run directory")],
    sql: Annotated[
        str | None,
        typer.Argument(metavar="SQL", help="a SELECT; without it, the tables are listed", show_default=False),
    ] = None,
    format: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="how to print the result")
    ] = "table",
    limit: Annotated[int, typer.Option("--limit", min=1, help="rows of a table to print")] = 50,
    full: Annotated[bool, typer.Option("--full", help="show long texts in full")] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask a run's tables with SQL (DuckDB). Read-only: a statement reaches neither files nor the network.

    Each stage is a table with a column for each payload key; dropped, failed, requests, published, tasks,
    stages and rounds are tables over the whole run.
    """
    check_run(run, "RUN")
    directory = RunDir(run)
    overview.recipe_of(directory)  # raises if there is no run
    names = ["rounds", *views.view_names(directory)]
    if sql is None:
        _list_tables(directory, names, as_json or format == "json")
        return
    with engine.answered(sql, names, lambda name: _table(directory, name)) as result:
        columns = _distinct([str(column[0]) for column in result.description])
        if as_json or format == "json":
            print_json([dict(zip(columns, map(_finite, row), strict=True)) for row in result.fetchall()])
        elif format == "csv":
            _print_csv(columns, _rows(result))
        else:
            _print_table(columns, _rows(result), limit, full)


def _table(run: RunDir, name: str) -> Table:
    if name == "rounds":
        return Table(name, lambda: iter([_round_records(run)]), {"round": COUNT})
    return views.view(run, name)


def _round_records(run: RunDir) -> list[Record]:
    """Return the figures of each evaluated round as flat columns: `greedy`, `greedy_low`, `greedy_high`."""
    records = []
    for figures in filter(None, (round_figures(run, r) for r in run.rounds())):
        record: Record = {"round": views.number(figures["round"])}
        for key, value in figures.items():
            if isinstance(value, dict) and value.keys() >= {"mean", "low", "high"}:
                record |= {key: value["mean"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
            elif isinstance(value, int | float) and key != "round":
                record[key] = value
        train = figures.get("train") or {}
        record |= {f"trained_{key}": (train.get("shares") or {}).get(key) for key in ("real", "synthetic")}
        record |= {f"train_{key}": train.get(key) for key in ("steps", "tokens", "final_loss", "seconds")}
        records.append(record)
    return records


def _list_tables(run: RunDir, names: list[str], as_json: bool) -> None:
    about = {"rounds": ROUNDS, **views.VIEWS}
    tables: list[dict[str, Any]] = [
        {"table": n, "holds": about.get(n, "the rows that this stage passed on"), "columns": _columns(run, n)}
        for n in names
    ]
    if as_json:
        print_json(tables)
        return
    for table in tables:
        quoted = table["table"] if table["table"].isidentifier() else f'"{table["table"]}"'
        show(f"{quoted}: {table['holds']}", style="bold")
        show(", ".join(table["columns"]), 4)
    show('for example: selfloop query RUN "select round, reason, count(*) from dropped group by all"')


def _columns(run: RunDir, name: str) -> list[str]:
    """Return a table's columns, those of its first batch: reading all of it only to list them takes long."""
    table = _table(run, name)
    first = next(table.batches(), [])
    return list(Table(name, lambda: iter([first]), table.first).schema().names)


def _rows(result: Any) -> Iterator[tuple[Any, ...]]:
    while rows := result.fetchmany(1000):
        yield from rows


def _print_table(columns: list[str], rows: Iterator[tuple[Any, ...]], limit: int, full: bool) -> None:
    """Print a table, or, where its columns do not fit side by side, each row's columns below each other."""
    shown = [[_text(value) for value in row] for row in islice(rows, limit)]
    more = sum(1 for _ in rows)
    widths = [max(map(len, (name, *cells))) for name, *cells in zip(columns, *shown, strict=True)]
    if sum(min(width, NARROW) + 3 for width in widths) > console.width:
        for row in shown:
            for name, text in zip(columns, row, strict=True):
                show_field(printable(name), text, width=max(map(len, columns)) + 2, full=full)
            show()
    else:
        grid = Grid(show_edge=False, pad_edge=False)
        for name in columns:
            grid.add_column(printable(name), overflow="fold")
        for row in shown:
            grid.add_row(*(Text(printable(text) if full else one_line(text, CELL)) for text in row))
        console.print(grid, soft_wrap=False)
    if more:
        total = limit + more
        say(f"{limit} of {total:,} rows; --limit {total} prints all, as do --format csv and json")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return _json(value) if isinstance(value, dict | list) else str(value)


def _print_csv(columns: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
    """Print CSV: to a terminal without characters that steer it, otherwise exactly."""
    for row in (columns, *rows):
        line = io.StringIO()
        cells = [_json(cell) if isinstance(cell, dict | list) else cell for cell in row]
        csv.writer(line, lineterminator="\n").writerow(cells)
        sys.stdout.write(printable(line.getvalue()) if sys.stdout.isatty() else line.getvalue())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    """Return a value without the numbers that JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _distinct(names: list[str]) -> list[str]:
    """Return the names with a number behind those that came before."""
    return [f"{n}_{names[:i].count(n)}" if n in names[:i] else n for i, n in enumerate(names)]


if __name__ == "__main__":
    main(query)
