"""Accuracy, pass@k and maj@k, with bootstrap intervals over questions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import comb, nan
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A mean with its 95% bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: Sequence[float], resamples: int = 2000, seed: int = 0, clusters: Sequence[str] | None = None
) -> Interval:
    """Return the mean of `values`, one per question, with its 95% percentile bootstrap interval.

    `clusters` names each value's cluster, such as its document: whole clusters are then resampled, because
    questions about one document are not independent.
    """
    data = np.asarray(values, dtype=float)
    if not len(data):
        return Interval(nan, nan, nan)
    means = resampled_means(data, resamples, np.random.default_rng(seed), clusters)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(data.mean()), float(low), float(high))


def resampled_means(
    values: np.ndarray, resamples: int, rng: np.random.Generator, clusters: Sequence[str] | None = None
) -> np.ndarray:
    """Return the means of `resamples` draws with replacement, of values or of whole clusters."""
    if clusters is None:
        return np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    member = np.unique(np.asarray(clusters), return_inverse=True)[1]
    sums, sizes = np.bincount(member, values), np.bincount(member)
    draws = (rng.integers(0, len(sums), len(sums)) for _ in range(resamples))
    return np.array([sums[draw].sum() / sizes[draw].sum() for draw in draws])


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return p10, p25, p50, p75, p90 and max of `values`; {} if there are none."""
    if not len(values):
        return {}
    names, points = ("p10", "p25", "p50", "p75", "p90", "max"), [10, 25, 50, 75, 90, 100]
    return {n: round(float(v), 4) for n, v in zip(names, np.percentile(values, points), strict=True)}


def paired_difference(
    old: dict[str, float],
    new: dict[str, float],
    resamples: int = 2000,
    seed: int = 0,
    clusters: Mapping[str, str] | None = None,
) -> Interval:
    """Return new minus old over the question ids in both, resampling pairs (or clusters of them)."""
    both = sorted(old.keys() & new.keys())
    differences = [new[i] - old[i] for i in both]
    return bootstrap(differences, resamples, seed, [clusters[i] for i in both] if clusters else None)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Return the unbiased estimate of pass@k from `correct` of `n` samples (Chen et al. 2021, eq. 1).

    Raises ValueError if k > n.
    """
    if k > n:
        raise ValueError(f"pass@{k} needs at least {k} samples, there are {n}")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def majority(answers: Sequence[str | None]) -> str | None:
    """Return the most frequent answer, the earliest of a tie; None if no sample has an answer."""
    votes = Counter(a for a in answers if a is not None)
    return votes.most_common(1)[0][0] if votes else None


def flips(old: dict[str, float], new: dict[str, float]) -> tuple[int, int]:
    """Return how many questions went from right to wrong, and from wrong to right."""
    both = old.keys() & new.keys()
    return sum(old[i] > new[i] for i in both), sum(old[i] < new[i] for i in both)
