"""Exact duplicates: the same answer to the same question, in this round or an earlier one."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep
from stages.steps.decontaminate import Asked

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
    whatever order they come. Memory: a 16-byte digest per row and earlier pair.
    """

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        before = {_digest(question, answer) for question, answer in earlier()}
        first: dict[bytes, str] = {}  # digest: the smallest id that has it
        for row in rows():
            key = _digest(question_of(row), text(row))
            first[key] = min(row.id, first.get(key, row.id))
        for row in rows():
            key = _digest(question_of(row), text(row))
            if key in before:
                yield row, Dropped("duplicate", "of an answer of an earlier round")
            else:
                yield row, None if row.id == first[key] else Dropped("duplicate", f"of row {first[key]}")

    return step


def _digest(question: str, text: str) -> bytes:
    """Return 16 bytes (a collision among 10^9 rows has a chance of about 10^-21)."""
    # Only single spaces are left as white space, so the line feed separates the two parts.
    parts = "\n".join(" ".join(part.split()) for part in (question, text))
    return blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=16).digest()
