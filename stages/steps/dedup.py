"""Exact duplicates: the same answer to the same question, in this round or an earlier one."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep
from stages.steps.decontaminate import Asked
from stages.steps.groups import decided

Pairs = Callable[[], Iterable[tuple[str, str]]]


def question_of(row: Row) -> str:
    """Return the question with its options and the turns before it: what a row answers."""
    asked = Asked.of(row.payload)
    return "\n".join([asked.question, *asked.beside])


def exact_duplicates(
    earlier: Pairs, text: Callable[[Row], str] = lambda row: row.payload["text"]
) -> DatasetStep:
    """Return a step that drops rows that repeat another one, or one of the `earlier` (question, text) pairs.

    Texts are equal if they differ in white space only. Of equal rows the one with the smallest id stays, in
    whatever order they come. Memory is bounded (groups).
    """

    def entry(row: Row) -> tuple[bytes, str]:
        return _digest(question_of(row), text(row)), row.id

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        before = ((_digest(question, answer), None) for question, answer in earlier())
        for row, first in decided(rows, entry, _first, before):
            if first is None:
                yield row, Dropped("duplicate", "of an answer of an earlier round")
            else:
                yield row, None if row.id == first else Dropped("duplicate", f"of row {first}")

    return step


def _first(equal: list[str | None]) -> list[str | None]:
    """Return for each of equal rows the id of the one that stays; None if an earlier round has them."""
    return [None if None in equal else min(filter(None, equal))] * len(equal)


def _digest(question: str, text: str) -> bytes:
    """Return 16 bytes (a collision among 10^9 rows has a chance of about 10^-21)."""
    # Only single spaces are left as white space, so the line feed separates the two parts.
    parts = "\n".join(" ".join(part.split()) for part in (question, text))
    return blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=16).digest()
