"""Read a recipe's source into task rows: the same rows with the same ids, every time."""

from collections.abc import Iterator

from pipeline.config import Source
from pipeline.errors import DataError, SelfloopError, raised_at
from pipeline.registry import resolve
from pipeline.rows import Row
from stages.tasks.content import UnusableError, mapped_columns, missing, to_row
from stages.tasks.games import inherit_environment
from stages.tasks.records import BadRow, RawRow, Repeat, TaskSet

SHOWN = 3  # bad rows in an error message


def read_tasks(source: Source, seed: int, section: str = "tasks") -> TaskSet:
    """Return the tasks of `source`.

    `seed` is for sources that generate their tasks; `section` is the source's key in the recipe. Raises
    DataError if the source cannot be read, if a column is in no row, if no row is usable, and, unless
    on_bad_row is skip, if any row is not.
    """
    rows: dict[str, Row] = {}
    rejected: list[BadRow] = []
    columns: dict[str, None] = {}  # of all rows, in order of appearance
    repeats = raw_rows = 0
    for record in _records(source, seed):
        if isinstance(record, Repeat):
            repeats += 1
        elif isinstance(record, BadRow):
            rejected.append(record)
        else:
            raw_rows += 1
            columns.update(dict.fromkeys(record.values))
            try:
                row = to_row(record, source, demonstration=section == "demonstrations")
                if first := rows.get(row.id):
                    what, where = "id" if source.columns.id else "content", first.payload["source"]["where"]
                    raise UnusableError(f"duplicate {what}: the same as at {where}")
                rows[row.id] = row
            except UnusableError as e:
                rejected.append(BadRow(record.where, str(e), repr(record.values)))
    name = f"{section}: {source.path or source.dataset or source.source}"
    if raw_rows:
        # A column that no row has is a mistake in the recipe, not in the rows.
        for field, column in mapped_columns(source).items():
            if column not in columns:
                raise DataError(f"{name}: {missing(column, field, list(columns))}")
    _check_rejected(source, len(rows), rejected, section, name)
    return TaskSet(list(rows.values()), rejected, repeats, name)


def read_demonstrations(source: Source, seed: int, tasks: Source | None = None) -> TaskSet:
    """Return the demonstrations of `source`, read like tasks, except that each has an answer or a solution.

    Episodes of an environment are by default of the one that `tasks` are of.
    """
    return read_tasks(inherit_environment(source, tasks) if tasks else source, seed, "demonstrations")


def _records(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    """Yield what the source yields, up to `limit` rows, bad ones included."""
    count = 0
    try:
        for record in resolve("source", source.source)(source, seed):
            if not isinstance(record, RawRow | BadRow | Repeat):
                kind, expected = type(record).__name__, "stages.tasks.RawRow, BadRow or Repeat"
                raise DataError(f"source {source.source} yielded a {kind}; expected {expected}.")
            yield record
            count += not isinstance(record, Repeat)
            if count == source.limit:
                return
    except (SelfloopError, OSError):
        raise
    except Exception as e:  # a user's own source, or a package with odd options, may raise anything
        what = f"source {source.source}: {source.path or source.dataset or ''}".rstrip(": ")
        raise DataError(f"{what}, options {source.options}: {type(e).__name__}: {e} ({raised_at(e)})") from e


def _check_rejected(source: Source, usable: int, rejected: list[BadRow], section: str, name: str) -> None:
    if not usable and not rejected:
        raise DataError(f"{name}: contains no row; expected at least one.")
    if not rejected or (usable and source.on_bad_row == "skip"):
        return
    shown = "\n".join(f"  {bad.where}: {bad.problem}" for bad in rejected[:SHOWN])
    more = f"\n  ... and {len(rejected) - SHOWN} more" if len(rejected) > SHOWN else ""
    advice = f"Fix them, or set {section}.on_bad_row: skip to leave them out and record them with the run."
    raise DataError(
        f"{name}: {len(rejected)} of {usable + len(rejected)} rows are unusable:\n{shown}{more}\n"
        f"{advice if usable else 'No usable row is left.'}"
    )
