"""Texts that add nothing, being copied from their document."""

from functools import lru_cache

import numpy as np

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64


def copied(text: str, document: str, longest: int) -> str:
    """Return the first run of more than `longest` characters that is in the document, ignoring white space;
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
