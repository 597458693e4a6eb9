"""Signatures, bands and the buckets that rows share."""

import hashlib
import random

import numpy as np
import pytest

from stages.steps import minhash


def pair(rng: random.Random, similarity: float, size: int = 400) -> tuple[list[str], list[str]]:
    """Two sets of which the given share is common."""
    common = round(size * similarity)
    names = [f"{rng.random()}" for _ in range(size)]
    cut = (size - common) // 2 + common
    return names[:cut], names[:common] + names[cut:]


def test_signatures_are_the_same_on_every_machine():
    """A run that resumes elsewhere drops the same rows.

    An upgrade of rensa that changes this is a new version of the step.
    """
    sets = [["the cat sat", "cat sat on"], ["三つの文", "つの文字"], [""], [str(i) for i in range(1000)]]
    digest = hashlib.sha256(minhash.signatures(sets).astype("<u4").tobytes()).hexdigest()
    assert digest[:16] == "d0afed1ecc730dd3"
    assert (minhash.signatures(sets[::-1])[::-1] == minhash.signatures(sets)).all()


def test_order_and_repetition_make_no_difference():
    one, other = minhash.signatures([["a", "b", "c"], ["c", "a", "b", "a"]])
    assert (one == other).all()


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8, 0.95])
def test_the_estimate_is_unbiased(similarity):
    rng = random.Random(0)
    signed = minhash.signatures([s for _ in range(150) for s in pair(rng, similarity)])
    found = [minhash.similarities(a, b[None])[0] for a, b in zip(signed[::2], signed[1::2], strict=True)]
    assert abs(np.mean(found) - similarity) < 0.01
    assert np.std(found) < 0.05


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.99, 1.0])
def test_pairs_at_the_threshold_share_a_band(threshold):
    rng = random.Random(1)
    signed = minhash.signatures([s for _ in range(300) for s in pair(rng, threshold)])
    keys = minhash.band_keys(signed, minhash.rows_per_band(threshold))
    found = (keys[:, ::2] == keys[:, 1::2]).any(axis=0).mean()
    assert found > 0.97


def test_longer_bands_for_higher_thresholds():
    assert [minhash.rows_per_band(t) for t in (0.5, 0.8, 0.95, 1.0)] == [3, 6, 16, 128]


def test_buckets_are_what_rows_share_in_one_band():
    keys = np.array([[7, 7, 3, 4, 3], [3, 1, 2, 2, 9]], np.uint32)
    rows, buckets = minhash.shared(keys)
    groups = {tuple(sorted(rows[buckets == b].tolist())) for b in np.unique(buckets)}
    assert groups == {(0, 1), (2, 4), (2, 3)}


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_is_shared_by_less_than_two_rows(n):
    assert [len(found) for found in minhash.shared(np.zeros((3, n), np.uint32))] == [0, 0]
