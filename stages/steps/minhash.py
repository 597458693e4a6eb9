"""MinHash signatures of sets of shingles, and the bands of them that similar sets share (Broder 1997).

Signatures are rensa's. Its index would take over a kilobyte a row; band keys that are sorted take four bytes
a band.
"""

from collections.abc import Sequence

import numpy as np
from rensa import RMinHash

SIZE = 128  # hashes in a signature: the standard error of an estimated similarity is at most 0.045
FOUND = 0.99  # share of the pairs at the threshold that share a band
_SEED = 1
_MIX = np.uint64(0x9E3779B97F4A7C15)


def signatures(sets: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the signatures of non-empty sets as uint32, (sets, SIZE): the same ones on any machine."""
    matrix = RMinHash.digest_matrix_from_token_sets(sets, num_perm=SIZE, seed=_SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def similarities(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the estimated Jaccard similarities of a signature (SIZE) with others (n, SIZE), as (n)."""
    return (others == one).mean(axis=1)


def rows_per_band(threshold: float) -> int:
    """Return the length of the longest bands of which a pair with similarity `threshold` shares one with
    probability FOUND, 1 - (1 - threshold^rows)^bands; 1 if there is none.
    """
    lengths = range(SIZE, 0, -1)
    return next((r for r in lengths if 1 - (1 - threshold**r) ** (SIZE // r) >= FOUND), 1)


def band_keys(signed: np.ndarray, rows: int) -> np.ndarray:
    """Return a hash of each band of `rows` values, as uint32, (bands, n). Different bands may collide."""
    bands = signed[:, : SIZE // rows * rows].reshape(len(signed), -1, rows)
    keys = np.zeros(bands.shape[:2], np.uint64)
    for i in range(rows):
        keys = (keys ^ bands[:, :, i]) * _MIX
        keys ^= keys >> np.uint64(32)
    return np.ascontiguousarray(keys.astype(np.uint32).T)


def shared(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (row, bucket) pairs as two arrays, for each bucket (band and key) of two rows or more."""
    rows, buckets = [], []
    for band, column in enumerate(keys):
        order = np.argsort(column, kind="stable")
        first = np.diff(column[order], prepend=~column[order[:1]]) != 0
        bucket = np.cumsum(first) - 1
        several = np.bincount(bucket)[bucket] > 1
        rows.append(order[several])
        buckets.append(bucket[several] + band * column.size)
    return np.concatenate(rows), np.concatenate(buckets)
