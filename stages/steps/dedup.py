"""Exact duplicates: the same answer to the same question, in this round or an earlier one. Source: ReGenesis 1.4."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import blake2b

from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep

Pairs = Callable[[], Iterable[tuple[str, str]]]


def question_of(row: Row) -> str:
    """Return what a row's answer is an answer to: the question, and the options, where there are some."""
    return "\n".join([row.payload["question"], *(row.payload.get("options") or ())])


def exact_duplicates(
    earlier: Pairs, said: Callable[[Row], str] = lambda row: row.payload["text"]
) -> DatasetStep:
    """Return a step that drops as duplicate what repeats another row, or one of the `earlier` (question, text) pairs (see `question_of`).

    `said` is a row's text. Texts are equal when they differ in white space only. Of equal rows the one with the smallest id stays, whatever their
    order. Memory: a 16-byte digest for each earlier pair and each row, not the texts.
    """
    return partial(_exact_duplicates, earlier, said)


def _exact_duplicates(
    earlier: Pairs, said: Callable[[Row], str], rows: Callable[[], Iterable[Row]]
) -> Iterator[tuple[Row, Dropped | None]]:
    before = {_digest(question, text) for question, text in earlier()}
    first: dict[bytes, str] = {}  # digest: the smallest id that has it
    for row in rows():
        key = _digest(question_of(row), said(row))
        first[key] = min(row.id, first.get(key, row.id))
    for row in rows():
        key = _digest(question_of(row), said(row))
        if key in before:
            yield row, Dropped("duplicate", "of an answer of an earlier round")
        elif row.id != first[key]:
            yield row, Dropped("duplicate", f"of row {first[key]}")
        else:
            yield row, None


def _digest(question: str, text: str) -> bytes:
    """Return 16 bytes (a collision among 10^9 rows has a chance of about 10^-21)."""
    # No white space is left but single spaces, so the line feed keeps the two parts apart.
    parts = "\n".join(" ".join(part.split()) for part in (question, text))
    return blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=16).digest()
