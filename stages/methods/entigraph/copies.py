"""Texts that add nothing: copied from their document, or near-duplicates by MinHash (Broder 1997)."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep
from stages.steps.words import divide

PERMUTATIONS = 128
SHINGLE = 3  # words
_PRIME = (1 << 31) - 1
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_rng = np.random.default_rng(20240911)
_A = _rng.integers(1, _PRIME, PERMUTATIONS, dtype=np.uint64)
_B = _rng.integers(0, _PRIME, PERMUTATIONS, dtype=np.uint64)


def copied(text: str, document: str, longest: int) -> str:
    """Return the first run of more than `longest` characters that stands in the document, white space aside;
    "" if there is none.

    Time: linear in the text, and n log n in the document, once for all its texts.
    """
    text, (document, known) = " ".join(text.split()), _indexed(document, longest + 1)
    size = longest + 1
    if not len(known) or len(text) < size:
        return ""
    runs = _windows(text, size)
    at = np.searchsorted(known, runs)
    for start in np.flatnonzero(known[np.minimum(at, len(known) - 1)] == runs):
        if (run := text[start : start + size]) in document:  # equal hashes could be of different runs
            return run
    return ""


@lru_cache(maxsize=8)
def _indexed(document: str, size: int) -> tuple[str, np.ndarray]:
    """Return a document with single spaces, and the sorted hashes of its runs of `size` characters."""
    document = " ".join(document.split())
    return document, np.sort(_windows(document, size)) if len(document) >= size else np.empty(0, np.uint64)


def _windows(text: str, size: int) -> np.ndarray:
    """Return the polynomial hashes, modulo 2^64, of all runs of `size` characters, in order."""
    characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    count = len(characters) - size + 1
    powers = np.full(len(characters), _BASE, dtype=np.uint64)
    powers[0] = 1
    powers = np.multiply.accumulate(powers)
    sums = np.concatenate(([np.uint64(0)], np.cumsum(characters.astype(np.uint64) * powers, dtype=np.uint64)))
    inverse = np.full(count, pow(_BASE, -1, 1 << 64), dtype=np.uint64)
    inverse[0] = 1
    return (sums[size:] - sums[:count]) * np.multiply.accumulate(inverse)


def signature(text: str) -> np.ndarray:
    """Return the MinHash of a text's word shingles, shape (PERMUTATIONS,), uint32.

    The share of equal entries in two signatures estimates the Jaccard similarity of the texts.
    """
    words = _words(text)
    shingles = {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
    digests = (blake2b(shingle.encode(), digest_size=4).digest() for shingle in sorted(shingles))
    hashes = np.array([int.from_bytes(digest, "big") % _PRIME for digest in digests], dtype=np.uint64)
    return ((hashes[:, None] * _A + _B) % _PRIME).min(axis=0).astype(np.uint32)


def _words(text: str) -> list[str]:
    return [part for token in re.findall(r"\w+", text.casefold()) for part in divide(token)]


def near_duplicates(similarity: float) -> DatasetStep:
    """Return a step that drops texts at least this similar to another of their document (payload["task_id"]).

    Goes by the order of ids, not of rows. Memory: 4 bytes per permutation and row.
    """

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        documents: dict[str, dict[str, np.ndarray]] = {}
        for row in rows():
            documents.setdefault(row.payload["task_id"], {})[row.id] = signature(row.payload["text"])
        twins = {i: t for signatures in documents.values() for i, t in _twins(signatures, similarity).items()}
        for row in rows():
            twin = twins.get(row.id)
            yield row, Dropped("near_duplicate", twin, row.payload["text"]) if twin else None

    return step


def _twins(signatures: dict[str, np.ndarray], similarity: float) -> dict[str, str]:
    """Return, for each text like an earlier kept one (by id), how similar to which."""
    twins: dict[str, str] = {}
    kept_ids: list[str] = []
    kept = np.empty((len(signatures), PERMUTATIONS), dtype=np.uint32)
    for row_id in sorted(signatures):
        agree = (kept[: len(kept_ids)] == signatures[row_id]).mean(axis=1) if kept_ids else np.zeros(1)
        if agree.max() >= similarity:
            twins[row_id] = f"similarity {agree.max():.2f} to row {kept_ids[int(agree.argmax())]}"
        else:
            kept[len(kept_ids)] = signatures[row_id]
            kept_ids.append(row_id)
    return twins
