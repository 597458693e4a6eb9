"""Texts that add nothing: copied from their document, or near-duplicates by MinHash (Broder 1997)."""

import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

import numpy as np

from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep
from stages.steps.words import divide

PERMUTATIONS = 128
SHINGLE = 3  # words
_PRIME = (1 << 31) - 1
_rng = np.random.default_rng(20240911)
_A = _rng.integers(1, _PRIME, PERMUTATIONS, dtype=np.uint64)
_B = _rng.integers(0, _PRIME, PERMUTATIONS, dtype=np.uint64)


def copied(text: str, document: str, longest: int) -> str:
    """Return a copied run of more than `longest` characters, white space aside; "" if there is none."""
    text, document = " ".join(text.split()), " ".join(document.split())
    size = longest + 1
    return next((run for i in range(len(text) - longest) if (run := text[i : i + size]) in document), "")


def signature(text: str) -> np.ndarray:
    """Return the MinHash of a text's word shingles, shape (PERMUTATIONS,), uint32.

    The share of equal entries in two signatures estimates the Jaccard similarity of the texts.
    """
    words = [part for token in re.findall(r"\w+", text.casefold()) for part in divide(token)]
    shingles = {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
    digests = (blake2b(shingle.encode(), digest_size=4).digest() for shingle in sorted(shingles))
    hashes = np.array([int.from_bytes(digest, "big") % _PRIME for digest in digests], dtype=np.uint64)
    return ((hashes[:, None] * _A + _B) % _PRIME).min(axis=0).astype(np.uint32)


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
