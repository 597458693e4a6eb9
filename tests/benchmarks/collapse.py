"""Model collapse in two settings that can be solved exactly: simulation against closed form.

    python -m tests.benchmarks.collapse           6,000 repetitions (half a minute)
    python -m tests.benchmarks.collapse 2000      fewer

A model is fitted to data, labels or samples its successor's data, and so on, without any filter:
Gerstgrasser et al. 2024 (arXiv 2404.01413), section 3, and Kazdan et al. 2024 (arXiv 2410.16713). Iteration 1
is the fit to real data alone. The policies are those of `accumulate`: `replace` trains on the newest data,
`all` on everything so far, and `volume` is the control that tells data from its amount: newest data only, but
as much of it as `all` has. A verifier changes what the rounds converge to: these are baselines, no forecasts.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
ITERATIONS, REPETITIONS, SHOWN = 12, 6000, (1, 2, 5, 12)
TOLERATED_Z = 4.0
POLICIES = ("replace", "all", "volume")


@dataclass(frozen=True)
class Regression:
    """Least squares in `d` dimensions on `t` points with label noise of variance `noise`; t >= d + 2."""

    d: int = 6
    t: int = 30
    noise: float = 1.5
    fresh: bool = False  # whether each iteration draws new points, or labels those of the first one again

    def expected(self, policy: str) -> Array:
        """Return the expected squared error of the weights after each iteration: shape (ITERATIONS,)."""
        i = np.arange(1, ITERATIONS + 1)
        points = i * self.t if self.fresh and policy != "replace" else np.full(ITERATIONS, self.t)
        one = self.noise * self.d / (points - self.d - 1)
        power = {"replace": 0, "all": 2, "volume": 1}[policy]
        if self.fresh and policy != "replace":
            power -= 1  # the other factor is in `points`
        return np.cumsum(one / i**power)

    def errors(self, policy: str, rng: np.random.Generator) -> Array:
        """Return the squared errors of one chain of fits to labels of which the true weights are 0."""
        weights, errors = np.zeros(self.d), np.empty(ITERATIONS)
        points, labels = np.empty((0, self.d)), np.empty(0)
        first = rng.standard_normal((self.t, self.d))
        for n in range(ITERATIONS):
            size = n + 1 if policy == "volume" else 1
            new = [rng.standard_normal((self.t, self.d)) if self.fresh else first for _ in range(size)]
            x = np.concatenate(new)
            y = x @ weights + rng.normal(0, self.noise**0.5, len(x))
            points, labels = (
                (np.concatenate([points, x]), np.concatenate([labels, y])) if policy == "all" else (x, y)
            )
            weights = np.linalg.lstsq(points, labels, rcond=None)[0]
            errors[n] = weights @ weights
        return errors


@dataclass(frozen=True)
class Gaussian:
    """Maximum likelihood fit of mean and variance to `n` draws from the fit before; the truth is N(0, 1)."""

    n: int = 10

    def expected(self, policy: str) -> Array:
        """Return the expected variance after each iteration: shape (ITERATIONS,)."""
        i = np.arange(1, ITERATIONS + 1)
        return np.cumprod(1 - 1 / (self.n * i ** {"replace": 0, "all": 2, "volume": 1}[policy]))

    def errors(self, policy: str, rng: np.random.Generator) -> Array:
        """Return the variances of one chain of fits."""
        mean, deviation, variances, pool = 0.0, 1.0, np.empty(ITERATIONS), np.empty(0)
        for i in range(ITERATIONS):
            new = rng.normal(mean, deviation, self.n * (i + 1 if policy == "volume" else 1))
            pool = np.concatenate([pool, new]) if policy == "all" else new
            mean, variances[i] = pool.mean(), pool.var()
            deviation = variances[i] ** 0.5
        return variances


SETTINGS: dict[str, Regression | Gaussian] = {
    "regression, the same points": Regression(),
    "regression, fresh points": Regression(fresh=True),
    "variance of a Gaussian": Gaussian(),
}


def simulated(
    errors: Callable[[np.random.Generator], Array], repetitions: int, seed: int
) -> tuple[Array, Array]:
    """Return mean and standard error by iteration."""
    rng = np.random.default_rng(seed)
    found = np.stack([errors(rng) for _ in range(repetitions)])
    return found.mean(0), found.std(0, ddof=1) / repetitions**0.5


def main(repetitions: int = REPETITIONS) -> float:
    """Print simulation beside closed form; return the largest |z|."""
    worst = 0.0
    for name, setting in SETTINGS.items():
        print(f"\n{name} (iterations {', '.join(map(str, SHOWN))})")
        for seed, policy in enumerate(POLICIES):
            expected = setting.expected(policy)
            mean, error = simulated(lambda rng: setting.errors(policy, rng), repetitions, seed)  # noqa: B023
            z = float(np.abs((mean - expected) / error).max())
            worst = max(worst, z)
            shown = [i - 1 for i in SHOWN]
            print(
                f"  {policy:8} simulated {' '.join(f'{v:.3f}' for v in mean[shown])}   "
                f"closed form {' '.join(f'{v:.3f}' for v in expected[shown])}   largest |z| {z:.2f}"
            )
    print(f"\nlargest |z|: {worst:.2f} (tolerated: {TOLERATED_Z})")
    return worst


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])) > TOLERATED_Z)
