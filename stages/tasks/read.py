"""Read a recipe's source into task rows: the same rows with the same ids, every time."""

from collections.abc import Iterable, Iterator
from operator import itemgetter

import numpy as np
import orjson

from pipeline.alike import Digests
from pipeline.config import Source
from pipeline.errors import DataError, SelfloopError, raised_at
from pipeline.registry import resolve
from pipeline.rows import Row
from pipeline.store.spool import Rows, spooled
from stages.tasks import told
from stages.tasks.columns import is_there, mapped_columns, missing, top_level
from stages.tasks.content import to_row
from stages.tasks.games import inherit_environment
from stages.tasks.records import RAW_CHARS, BadRow, RawRow, Repeat, TaskSet, UnusableError
from stages.tasks.split import same_question

SHOWN = 3  # bad rows in an error message
_SAME = ("question", "options", "answer", "turns")  # of tasks that are the same


def read_tasks(source: Source, seed: int, section: str = "tasks") -> TaskSet:
    """Return the tasks of `source`.

    `seed` is for sources that generate their tasks; `section` is the source's key in the recipe. Rows that
    repeat an earlier one are left out and counted. Raises DataError if the source cannot be read, if a column
    is in no row, if no row is usable, and, unless on_bad_row is skip, if any row is not.
    """
    reading = _Reading(source, demonstrations=section == "demonstrations")
    rows = spooled(reading.rows(_records(source, seed)))
    repeats = _Repeats(rows, reading.ids.first())
    preset = f" (preset {source.preset})" if source.preset else ""
    name = f"{section}: {source.path or source.dataset or source.source}{preset}"
    if reading.columns:
        # A column that no row has is a mistake in the recipe, not in the rows.
        for field, column in mapped_columns(source):
            if not is_there(column, reading.columns):
                raise DataError(f"{name}: {missing(column, field, list(reading.columns))}")
    tasks = rows.at(repeats.firsts)
    in_order = sorted([*reading.rejected, *repeats.clashing], key=itemgetter(0))
    rejected = [bad for _, bad in in_order]
    _check_rejected(source, len(tasks), rejected, section, name)
    notes = (
        *_about_repeated(name, repeats.count, *repeats.example),
        *told.about(name, tasks, reading.questions.first(repeats.firsts)),
    )
    return TaskSet(tasks, rejected, reading.generated_twice + repeats.count, name, notes)


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


class _Reading:
    """What is found on the way from a source's records to its rows."""

    def __init__(self, source: Source, demonstrations: bool) -> None:
        self._source, self._demonstrations = source, demonstrations
        self.rejected: list[tuple[int, BadRow]] = []  # with how many rows are before it
        self.columns: dict[str, None] = {}  # of all records, in order of appearance
        self.generated_twice = 0
        self.ids, self.questions = Digests(), Digests()

    def rows(self, records: Iterable[RawRow | BadRow | Repeat]) -> Iterator[tuple[Row, str]]:
        """Yield each row with what to show of its record if it turns out to be unusable."""
        for record in records:
            if isinstance(record, Repeat):
                self.generated_twice += 1
            elif isinstance(record, BadRow):
                self.rejected.append((len(self.ids), record))
            else:
                self.columns.update(dict.fromkeys(record.values))
                try:
                    row = to_row(record, self._source, self._demonstrations)
                except UnusableError as e:
                    bad = BadRow(record.where, str(e), _raw(record, self._source))
                    self.rejected.append((len(self.ids), bad))
                    continue
                self.ids.add(row.id.encode())
                self.questions.add(orjson.dumps(same_question(row)))
                # Ids that derive from the content cannot be those of two tasks.
                yield row, _raw(record, self._source)[:RAW_CHARS] if "id" in row.payload["source"] else ""


class _Repeats:
    """The rows that have the id of an earlier one: the same task again, or (`clashing`) another."""

    def __init__(self, rows: Rows, first: np.ndarray) -> None:
        """`first` is for each row the place of the first with its id."""
        self.firsts = np.flatnonzero(first == np.arange(len(first)))
        self.clashing: list[tuple[int, BadRow]] = []
        self.count, self.example = 0, ("", "")  # where a row is, and where the earlier one is that it repeats
        for place in np.flatnonzero(first != np.arange(len(first))).tolist():
            row, earlier = rows[place], rows[first[place]]
            where, there = (str(r.payload["source"]["where"]) for r in (row, earlier))
            if any(row.payload.get(key) != earlier.payload.get(key) for key in _SAME):
                problem = f"duplicate id: the same as at {there}, of another task"
                self.clashing.append((place, BadRow(where, problem, rows.note(place))))
            else:
                self.example = self.example if self.count else (where, there)
                self.count += 1


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
