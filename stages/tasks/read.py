"""Read a recipe's source into task rows: the same rows with the same ids, every time."""

from collections.abc import Iterator

from pipeline.config import Source
from pipeline.errors import DataError, SelfloopError, raised_at
from pipeline.registry import resolve
from pipeline.rows import Row
from stages.tasks import told
from stages.tasks.columns import is_there, mapped_columns, missing, top_level
from stages.tasks.content import to_row
from stages.tasks.games import inherit_environment
from stages.tasks.records import BadRow, RawRow, Repeat, TaskSet, UnusableError

SHOWN = 3  # bad rows in an error message


def read_tasks(source: Source, seed: int, section: str = "tasks") -> TaskSet:
    """Return the tasks of `source`.

    `seed` is for sources that generate their tasks; `section` is the source's key in the recipe. Rows that
    repeat an earlier one are left out and counted. Raises DataError if the source cannot be read, if a column
    is in no row, if no row is usable, and, unless on_bad_row is skip, if any row is not.
    """
    rows: dict[str, Row] = {}
    rejected: list[BadRow] = []
    repeated, example = 0, ("", "")  # where a row is, and where the earlier one is that it repeats
    columns: dict[str, None] = {}  # of all rows, in order of appearance
    generated_twice = 0
    for record in _records(source, seed):
        if isinstance(record, Repeat):
            generated_twice += 1
        elif isinstance(record, BadRow):
            rejected.append(record)
        else:
            columns.update(dict.fromkeys(record.values))
            try:
                row = to_row(record, source, demonstration=section == "demonstrations")
                first = rows.setdefault(row.id, row)
                if first is not row:
                    same = (record.where, _check_same(row, first))
                    example = example if repeated else same
                    repeated += 1
            except UnusableError as e:
                rejected.append(BadRow(record.where, str(e), _raw(record, source)))
    preset = f" (preset {source.preset})" if source.preset else ""
    name = f"{section}: {source.path or source.dataset or source.source}{preset}"
    if columns:
        # A column that no row has is a mistake in the recipe, not in the rows.
        for field, column in mapped_columns(source):
            if not is_there(column, columns):
                raise DataError(f"{name}: {missing(column, field, list(columns))}")
    _check_rejected(source, len(rows), rejected, section, name)
    tasks = list(rows.values())
    notes = (*_about_repeated(name, repeated, *example), *told.about(name, tasks))
    return TaskSet(tasks, rejected, generated_twice + repeated, name, notes)


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


def _check_same(row: Row, first: Row) -> str:
    """Return where `first` is. Raises UnusableError if it is another task, with the same given id."""
    where = str(first.payload["source"]["where"])
    if any(
        row.payload.get(key) != first.payload.get(key) for key in ("question", "options", "answer", "turns")
    ):
        raise UnusableError(f"duplicate id: the same as at {where}, of another task")
    return where


def _about_repeated(name: str, count: int, where: str, first: str) -> list[str]:
    if not count:
        return []
    rows = (
        "1 row repeats an earlier one and is" if count == 1 else f"{count} rows repeat earlier ones and are"
    )
    return [f"{name}: {rows} left out, such as {where}, which is the same as {first}"]


def _raw(record: RawRow, source: Source) -> str:
    """Return the columns that the recipe names as text, for people."""
    return repr({name: record.values[name] for name in record.values if name in top_level(source)})
