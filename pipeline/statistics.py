"""Accuracy, pass@k, maj@k, and what can be said of them: bootstrap intervals over questions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import comb
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
    """Return the mean of `values` (one per question) with its 95% percentile bootstrap interval.

    `clusters` names for each value what it belongs to, such as a document: whole clusters are resampled then, as questions about
    one document are not independent of each other.
    """
    data = np.asarray(values, dtype=float)
    if not len(data):
        return Interval(float("nan"), float("nan"), float("nan"))
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
    drawn = (rng.integers(0, len(sums), len(sums)) for _ in range(resamples))
    return np.array([sums[chosen].sum() / sizes[chosen].sum() for chosen in drawn])


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return the distribution of `values` in six numbers: tenths, quartiles, median and maximum; {} of none."""
    if not len(values):
        return {}
    names, found = (
        ("p10", "p25", "p50", "p75", "p90", "max"),
        np.percentile(values, [10, 25, 50, 75, 90, 100]),
    )
    return {name: round(float(value), 4) for name, value in zip(names, found, strict=True)}


def paired_difference(
    old: dict[str, float],
    new: dict[str, float],
    resamples: int = 2000,
    seed: int = 0,
    clusters: Mapping[str, str] | None = None,
) -> Interval:
    """Return new minus old over the questions (ids) that both answered, resampling questions (or clusters), so that pairs stay pairs."""
    both = sorted(old.keys() & new.keys())
    return bootstrap(
        [new[i] - old[i] for i in both], resamples, seed, [clusters[i] for i in both] if clusters else None
    )


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Return the unbiased estimate of pass@k from `correct` of `n` samples (Chen et al. 2021, eq. 1). Needs k <= n."""
    if k > n:
        raise ValueError(f"pass@{k} needs at least {k} samples, there are {n}")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def majority(answers: Sequence[str | None]) -> str | None:
    """Return the most frequent answer, of equally frequent ones the first given; None when no sample had an answer."""
    votes = Counter(a for a in answers if a is not None)
    return votes.most_common(1)[0][0] if votes else None


def flips(old: dict[str, float], new: dict[str, float]) -> tuple[int, int]:
    """Return how many questions went from right to wrong, and from wrong to right."""
    both = old.keys() & new.keys()
    return sum(old[i] > new[i] for i in both), sum(old[i] < new[i] for i in both)
