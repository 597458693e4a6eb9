"""Reads a recipe's source into task rows: the same rows, with the same ids, every time."""

from collections.abc import Iterator
from typing import Any

from pipeline.config import Source
from pipeline.errors import DataError, SelfloopError, raised_at
from pipeline.registry import resolve
from pipeline.rows import Row
from stages.tasks.content import UnusableError, mapped_columns, missing, to_row
from stages.tasks.games import in_the_game_of
from stages.tasks.records import BadRow, RawRow, Repeat, TaskSet

SHOWN = 3  # bad rows that an error message shows


def read_tasks(source: Source, seed: int, section: str = "tasks") -> TaskSet:
    """Return the tasks of `source`; `seed` is the recipe's, for sources that make their tasks; `section` where it stands in the recipe.

    Raises DataError when the source cannot be read, when a column is in no row, when no row is usable, and, unless on_bad_row is skip,
    when one row is not.
    """
    return _read(source, seed, section)


def read_demonstrations(source: Source, seed: int, tasks: Source | None = None) -> TaskSet:
    """Return the demonstrations of `source`: as `read_tasks`, but each has an answer or a solution.

    Episodes of an environment are of the one that `tasks` are of, unless `source` names another.
    """
    return _read(in_the_game_of(tasks, source) if tasks else source, seed, "demonstrations")


def _read(source: Source, seed: int, section: str) -> TaskSet:
    rows: dict[str, Row] = {}
    rejected: list[BadRow] = []
    columns: dict[str, None] = {}  # every column that any row had, in the order they were met
    repeats = whole = 0
    for record in _records(source, seed):
        if isinstance(record, Repeat):
            repeats += 1
            continue
        result: Row | BadRow = record if isinstance(record, BadRow) else _use(record, source, section, rows)
        if isinstance(record, RawRow):
            whole += 1
            columns.update(dict.fromkeys(record.values))
        if isinstance(result, BadRow):
            rejected.append(result)
        else:
            rows[result.id] = result
    name = f"{section}: {source.path or source.dataset or source.source}"
    if whole:
        _check_columns(source, list(columns), name)
    _check_rejected(source, len(rows), rejected, section, name)
    return TaskSet(list(rows.values()), rejected, repeats, name)


def _records(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    """Yield what the source yields, up to `limit` rows, bad ones included."""
    left = source.limit
    for record in _made(source, seed):
        if not isinstance(record, RawRow | BadRow | Repeat):
            raise DataError(
                f"source {source.source} gave a {type(record).__name__}; expected stages.tasks.RawRow, BadRow or Repeat."
            )
        yield record
        if left is not None and not isinstance(record, Repeat):
            left -= 1
            if left == 0:
                return


def _made(source: Source, seed: int) -> Iterator[Any]:
    """Yield what the source gives; whatever code of the user's own, or a package with odd options, raises is an error for people."""
    try:
        yield from resolve("source", source.source)(source, seed)
    except (SelfloopError, OSError):
        raise
    except Exception as e:
        what = f"source {source.source}: {source.path or source.dataset or ''}".rstrip(": ")
        raise DataError(f"{what}, options {source.options}: {type(e).__name__}: {e} ({raised_at(e)})") from e


def _use(raw: RawRow, source: Source, section: str, rows: dict[str, Row]) -> Row | BadRow:
    try:
        row = to_row(raw, source, demonstration=section == "demonstrations")
    except UnusableError as e:
        return BadRow(raw.where, str(e), repr(raw.values))
    if row.id in rows:
        what = "id" if source.columns.id else "id: the same content"
        first = rows[row.id].payload["source"]["where"]
        return BadRow(raw.where, f"duplicate {what} as at {first}", repr(raw.values))
    return row


def _check_columns(source: Source, there: list[str], name: str) -> None:
    """A column that no row has is a mistake in the recipe, not in the rows."""
    for field, column in mapped_columns(source).items():
        if column not in there:
            raise DataError(f"{name}: {missing(column, field, there)}")


def _check_rejected(source: Source, usable: int, rejected: list[BadRow], section: str, name: str) -> None:
    if not usable and not rejected:
        raise DataError(f"{name}: there is no row in it; expected at least one.")
    if not rejected or (usable and source.on_bad_row == "skip"):
        return
    shown = "\n".join(f"  {b.where}: {b.problem}" for b in rejected[:SHOWN])
    more = f"\n  ... and {len(rejected) - SHOWN} more" if len(rejected) > SHOWN else ""
    if usable:
        advice = f"Mend them, or set {section}.on_bad_row: skip to leave them out; they are then recorded with the run."
    else:
        advice = "No usable row is left."
    raise DataError(
        f"{name}: {len(rejected)} of {usable + len(rejected)} rows cannot be used:\n{shown}{more}\n{advice}"
    )
