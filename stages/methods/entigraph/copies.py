"""Texts that say nothing new: copied from their document, or nearly the same as another text of it. MinHash: Broder 1997."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import blake2b

import numpy as np

from pipeline.rows import Dropped, Row
from pipeline.stage import DatasetStep

PERMUTATIONS = 128
SHINGLE = 3  # words
_PRIME = (1 << 31) - 1
_rng = np.random.default_rng(20240911)
_A = _rng.integers(1, _PRIME, PERMUTATIONS, dtype=np.uint64)
_B = _rng.integers(0, _PRIME, PERMUTATIONS, dtype=np.uint64)


def copied(text: str, document: str, longest: int) -> str:
    """Return a run of more than `longest` characters that the text has from the document (white space apart), '' if there is none."""
    text, document = " ".join(text.split()), " ".join(document.split())
    size = longest + 1
    return next((run for i in range(len(text) - longest) if (run := text[i : i + size]) in document), "")


def signature(text: str) -> np.ndarray:
    """Return the MinHash of a text's runs of SHINGLE words: PERMUTATIONS numbers; of two texts, the share that agree is about their Jaccard similarity."""
    words = re.findall(r"\w+", text.casefold())
    shingles = {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
    hashes = np.array(
        [
            int.from_bytes(blake2b(s.encode(), digest_size=4).digest(), "big") % _PRIME
            for s in sorted(shingles)
        ],
        dtype=np.uint64,
    )
    return ((hashes[:, None] * _A + _B) % _PRIME).min(axis=0).astype(np.uint32)


def near_duplicates(similarity: float) -> DatasetStep:
    """Return a step that drops texts which are at least so similar to another of the same document (payload["task_id"]).

    Texts are taken in the order of their ids, so that what stays does not depend on the order of rows. Memory: 4 bytes for each
    permutation and row.
    """
    return partial(_near_duplicates, similarity)


def _near_duplicates(
    similarity: float, rows: Callable[[], Iterable[Row]]
) -> Iterator[tuple[Row, Dropped | None]]:
    documents: dict[str, dict[str, np.ndarray]] = {}
    for row in rows():
        documents.setdefault(row.payload["task_id"], {})[row.id] = signature(row.payload["text"])
    like: dict[str, tuple[str, float]] = {}
    for signatures in documents.values():
        kept_ids: list[str] = []
        kept = np.empty((len(signatures), PERMUTATIONS), dtype=np.uint32)
        for row_id in sorted(signatures):
            agree = (kept[: len(kept_ids)] == signatures[row_id]).mean(axis=1) if kept_ids else np.zeros(1)
            if agree.max() >= similarity:
                like[row_id] = (kept_ids[int(agree.argmax())], float(agree.max()))
            else:
                kept[len(kept_ids)] = signatures[row_id]
                kept_ids.append(row_id)
    for row in rows():
        other = like.get(row.id)
        yield (
            row,
            Dropped("near_duplicate", f"similarity {other[1]:.2f} to row {other[0]}", row.payload["text"])
            if other
            else None,
        )
