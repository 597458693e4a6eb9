"""Accuracy, pass@k and maj@k, and differences of accuracy, with 95% intervals over questions.

Questions are the sample; runs (seeds) are not resampled. Where questions come in clusters, such as those
about one document, whole clusters are resampled (bootstrap). Otherwise answers that are right or wrong have
closed forms, whose interval is no single point where all answers are equal.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import comb, erfc, isnan, nan, sqrt
from typing import NamedTuple

import numpy as np

Z = 1.959964  # of a two-sided 95% interval
_AT_ONCE = 4_000_000  # weights of bootstrap draws in memory


class Interval(NamedTuple):
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float


def shown(interval: Mapping[str, float | None] | None, form: str = ".1%") -> str:
    """Return "mean [low, high]", or the mean alone where there are no bounds; "-" for None."""
    if not interval:
        return "-"
    bounds = [format(b, form) for b in (interval.get("low"), interval.get("high")) if b is not None]
    inside = f" [{', '.join(bounds)}]" if bounds else ""
    return f"{interval['mean']:{form}}{inside}"


class Difference(NamedTuple):
    """A difference with its 95% interval, and the two-sided p-value of there being none."""

    mean: float
    low: float
    high: float
    p: float

    @property
    def interval(self) -> Interval:
        """Return it without the p-value."""
        return Interval(self.mean, self.low, self.high)


class Term(NamedTuple):
    """One run's part of a difference: `weight` times the mean of `values`, which are by question id."""

    weight: float
    values: Mapping[str, float]


def proportion(
    values: Sequence[float], resamples: int = 2000, seed: int = 0, clusters: Sequence[str] | None = None
) -> Interval:
    """Return the mean of `values`, one per question, with its 95% interval.

    Wilson's score interval if all are 0 or 1 and there are no `clusters`: 0 right answers of 500 may be up to
    0.8%. Otherwise as `bootstrap`.
    """
    n, right = len(values), float(sum(values))
    if not n or clusters is not None or not set(values) <= {0.0, 1.0}:
        return bootstrap(values, resamples, seed, clusters)
    share, spread = right / n, Z * sqrt(right * (n - right) / n + Z**2 / 4)
    low, high = (right + Z**2 / 2 - spread) / (n + Z**2), (right + Z**2 / 2 + spread) / (n + Z**2)
    return Interval(share, min(max(low, 0.0), share), max(min(high, 1.0), share))


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
    old: Mapping[str, float],
    new: Mapping[str, float],
    resamples: int = 2000,
    seed: int = 0,
    clusters: Mapping[str, str] | None = None,
) -> Interval:
    """Return new minus old over the question ids in both, as `difference` does for one pair of runs."""
    both = sorted(old.keys() & new.keys())
    terms = [Term(1, {i: new[i] for i in both}), Term(-1, {i: old[i] for i in both})]
    return difference(terms, resamples, seed, clusters)


def difference(
    terms: Sequence[Term], resamples: int = 2000, seed: int = 0, clusters: Mapping[str, str] | None = None
) -> Interval:
    """Return the sum of `terms` with a 95% interval over the questions, shared by the terms or not.

    A question counts in all terms at once, however many runs it is in: answers of several runs to it are not
    independent. The interval is Bonett and Price's (2012) for paired proportions, carried over to sums: a
    question's part in the sum has its empirical variance, after one question more that is won and one that is
    lost. With `clusters` (question id: its cluster), or values other than 0 and 1, it is a percentile
    bootstrap of questions or whole clusters.
    """
    return contrast(terms, resamples, seed, clusters).interval


def contrast(
    terms: Sequence[Term], resamples: int = 2000, seed: int = 0, clusters: Mapping[str, str] | None = None
) -> Difference:
    """Return what `difference` does, and the p-value that goes with its interval.

    It is that of the interval's normal distribution: below 0.05 where 0 lies outside the interval. Of a
    bootstrap it is twice the share of the draws on the other side of 0 (Davison and Hinkley 1997, ch. 4).
    """
    ids = sorted({i for term in terms for i in term.values})
    if not ids or not all(term.values for term in terms):
        return Difference(nan, nan, nan, nan)
    weights = np.array([term.weight for term in terms])
    inside = np.array([[i in term.values for i in ids] for term in terms])
    values = np.array([[term.values.get(i, 0.0) for i in ids] for term in terms], dtype=float)
    means = values.sum(1) / inside.sum(1)
    total = float(weights @ means)
    if clusters or not set(np.unique(values)) <= {0.0, 1.0}:
        of = [clusters[i] for i in ids] if clusters else ids
        sums = _resampled(weights, values, inside, of, resamples, np.random.default_rng(seed))
        low, high = (float(q) for q in np.quantile(sums, [0.025, 0.975]))
        beyond = min((sums <= 0).sum(), (sums >= 0).sum())
        return Difference(total, low, high, min(1.0, 2 * float(beyond + 1) / (len(sums) + 1)))
    n = len(ids)
    parts = (weights * n / inside.sum(1)) @ np.where(inside, values - means[:, None], 0.0)
    center = total * n / (n + 2)
    spread = Z * sqrt(float(parts @ parts) + 2 + 2 * n * total**2 / (n + 2)) / (n + 2)
    p = erfc(abs(center) * Z / spread / sqrt(2))
    return Difference(total, max(center - spread, -1.0), min(center + spread, 1.0), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being looked at together (Holm 1979), in the order given.

    Rejecting those below 0.05 makes any false rejection at all no likelier than that. nan stays nan, and does
    not count.
    """
    adjusted, least = list(p_values), 0.0
    order = sorted((i for i, p in enumerate(p_values) if not isnan(p)), key=lambda i: p_values[i])
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def _resampled(
    weights: np.ndarray,
    values: np.ndarray,
    inside: np.ndarray,
    clusters: Sequence[str],
    resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the sum of the terms' means in each of `resamples` draws of clusters with replacement."""
    member = np.unique(np.asarray(clusters), return_inverse=True)[1]
    count = int(member.max()) + 1
    sums, sizes = np.zeros((count, len(weights))), np.zeros((count, len(weights)))
    np.add.at(sums, member, values.T)
    np.add.at(sizes, member, inside.T)
    found: list[np.ndarray] = []
    while (left := resamples - sum(map(len, found))) > 0:
        drawn = rng.multinomial(count, np.full(count, 1 / count), min(left, 1 + _AT_ONCE // count))
        with np.errstate(invalid="ignore"):
            means = (drawn @ sums) / (drawn @ sizes)
        found.append((means @ weights)[~np.isnan(means).any(1)])  # without draws that leave a term empty
    return np.concatenate(found)


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


def auc(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Return the chance that a right answer has a higher score than a wrong one; ties count half.

    NaN unless there are both.
    """
    labels = np.asarray(right, dtype=bool)
    yes, no = int(labels.sum()), int((~labels).sum())
    if not yes or not no:
        return nan
    ranks = midranks(scores)
    return float((ranks[labels].sum() - yes * (yes + 1) / 2) / (yes * no))


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's rank correlation; NaN where one side has a single value."""
    a, b = midranks(one), midranks(other)
    a, b = a - a.mean(), b - b.mean()
    spread = sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / spread if spread else nan


def midranks(values: Sequence[float]) -> np.ndarray:
    """Return the ranks of `values` from 1; equal ones share the mean of theirs."""
    _, place, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def resampled(
    statistic: Callable[[np.ndarray], float],
    clusters: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of all rows with its 95% percentile bootstrap interval.

    `statistic` takes the indices of rows, some of them repeatedly; whole `clusters` (one per row, such as its
    question) are drawn. Draws in which it is NaN do not count; without any other, all is NaN.
    """
    everything = np.arange(len(clusters))
    value = statistic(everything) if len(everything) else nan
    member = np.unique(np.asarray(clusters), return_inverse=True)[1]
    order, sizes = np.argsort(member, kind="stable"), np.bincount(member)
    groups = np.split(order, np.cumsum(sizes)[:-1])
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, len(groups), len(groups)) for _ in range(resamples if value == value else 0))
    found = [s for draw in draws if (s := statistic(np.concatenate([groups[i] for i in draw]))) == s]
    if not found:
        return Interval(value, nan, nan)
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(value, float(low), float(high))
