"""What a source yields, and the set that reading it gives."""

from collections import ChainMap
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.errors import DataError
from pipeline.store.spool import Rows

RAW_CHARS = 2000  # of a bad row's text that are kept, so that a torn file of gigabytes stays small


class Written(str):
    """A number as the file spells it: 1.10 stays 1.10, and 400 digits stay 400 digits."""

    __slots__ = ()


class UnusableError(ValueError):
    """A row cannot become a task; the message names the column and the reason."""


class Unreadable(NamedTuple):
    """Stands for a value that cannot be read, which matters only if its column is asked for."""

    problem: str


@dataclass(slots=True)
class RawRow:
    """One row as its source has it. `where` is for people ("tasks.jsonl:17", "chain_sum[3]").

    `values` may convert a value only when it is asked for; one that cannot be converted is `Unreadable`.
    A source that generates its tasks may set their ids, and their `split`: those of split test are then
    held out.
    """

    where: str
    values: Mapping[str, Any]
    id: str | None = None
    split: str | None = None


def with_value(values: Mapping[str, Any], name: str, value: Any) -> Mapping[str, Any]:
    """Return `values` with one more, without converting the others."""
    return ChainMap({name: value}, values)  # type: ignore[arg-type]  # which is only read


@dataclass(slots=True)
class BadRow:
    """An unusable row: where it is, what is wrong with it, and its (truncated) text."""

    where: str
    problem: str
    raw: str = ""

    def __post_init__(self) -> None:
        # Bytes that are not text arrive as lone surrogates, which neither a terminal nor Arrow accepts.
        self.where, self.problem = printable(self.where), printable(self.problem)
        self.raw = printable(self.raw[:RAW_CHARS])


@dataclass(slots=True)
class Repeat:
    """A question that a procedural source generated before: counted, but neither a row nor an error."""

    where: str


class TaskSet(NamedTuple):
    """The content of a source: usable rows, rejected ones (none unless on_bad_row is skip), the number of
    repeats left out, the source's name for people, and sentences on what they should know."""

    rows: Rows
    rejected: list[BadRow]
    duplicates: int
    where: str
    notes: tuple[str, ...] = ()


def printable(text: str) -> str:
    """Return `text` with everything that UTF-8 cannot encode escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def check_header(where: str, header: list[str], used: Collection[str]) -> None:
    """Raise DataError if two columns of the file at `where` have the same name, and it is one of `used`."""
    if twins := sorted({name for name in header if header.count(name) > 1 and name in used}):
        names = ", ".join(map(repr, twins))
        raise DataError(f"{where}: the column {names} occurs more than once; rename all but one.")
