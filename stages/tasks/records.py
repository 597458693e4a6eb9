"""What a source yields, and what reading it ends in."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.errors import DataError
from pipeline.rows import Row

RAW_CHARS = (
    2000  # of a bad row's text that are kept: enough to find it, and a torn file of gigabytes stays small
)


class Written(str):
    """A number as the file spells it: 1.10 stays 1.10, and 400 digits stay 400 digits."""

    __slots__ = ()


@dataclass(slots=True)
class RawRow:
    """One row as its source has it. `where` is for people ("tasks.jsonl:17", "chain_sum[3]").

    A source that makes its tasks may give them ids, and say itself of which `split` each is: then those of split test are held out.
    """

    where: str
    values: dict[str, Any]
    id: str | None = None
    split: str | None = None


@dataclass(slots=True)
class BadRow:
    """A row that cannot be used: where it stands, what is wrong with it, and its (shortened) text."""

    where: str
    problem: str
    raw: str = ""

    def __post_init__(self) -> None:
        # Bytes that are no text reach this place as lone surrogates, which neither a terminal nor Arrow takes.
        self.where, self.problem, self.raw = (
            printable(t) for t in (self.where, self.problem, self.raw[:RAW_CHARS])
        )


@dataclass(slots=True)
class Repeat:
    """A procedural source made a question that it had made before: counted, neither a row nor an error."""

    where: str


class TaskSet(NamedTuple):
    """What a source held: `rows` to use, `rejected` ones (empty unless on_bad_row is skip), and how many `duplicates`
    a procedural source made and left out. `where` names the source for people."""

    rows: list[Row]
    rejected: list[BadRow]
    duplicates: int
    where: str


def printable(text: str) -> str:
    """Return `text` with everything that UTF-8 cannot hold written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def no_duplicates(where: str, header: list[str]) -> None:
    """Raise DataError when two columns of the file at `where` have one name."""
    if twins := sorted({name for name in header if header.count(name) > 1}):
        raise DataError(
            f"{where}: the column {', '.join(map(repr, twins))} stands more than once; rename all but one."
        )
