"""The toy model against its own simulation, and against the figures of the specification."""

import numpy as np
import pytest

from stages.rearrangement import bounds, branching, expected_accuracy, extinction, simulate, source, subtree_sizes


def test_subtrees_of_a_small_source() -> None:
    relations = np.zeros((5, 5), dtype=bool)
    for x, y in ((0, 1), (1, 2), (1, 3)):  # nothing leads to 4
        relations[x, y] = True
    sizes = subtree_sizes(relations)
    assert sizes[0].tolist() == [0, 3, 1, 1, 0] and sizes[1].tolist() == [0, 0, 1, 1, 0] and not sizes[2:].any()
    assert expected_accuracy(relations, [0, 1e9]) == pytest.approx([3 / 20, 5 / 20])
    assert expected_accuracy(relations, [1])[0] == pytest.approx((3 + 2 * (1 / 20)) / 20)  # (0, 2) and (0, 3) can be deduced


@pytest.mark.parametrize("seed", [0, 1])
def test_the_exact_mixture_is_what_the_process_does(seed: int) -> None:
    relations = source(100, 3, seed)
    texts = [round(100 * 99 * share) for share in (0.03, 0.1, 0.3, 1, 3, 10)]
    exact, simulated = expected_accuracy(relations, texts), simulate(relations, texts, seed + 10)
    assert np.abs(exact - simulated).max() < 0.01
    assert (np.diff(exact) > 0).all()
    reachable = (subtree_sizes(relations) > 0).sum() / (100 * 99)
    assert expected_accuracy(relations, [1e12])[0] == pytest.approx(reachable)


@pytest.mark.parametrize(("degree", "rho", "limit"), [(3, 0.0595, 0.8845), (2, 0.2032, 0.6349)])
def test_the_chance_of_extinction(degree: float, rho: float, limit: float) -> None:
    assert extinction(degree) == pytest.approx(rho, abs=1e-4)
    assert (1 - extinction(degree)) ** 2 == pytest.approx(limit, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "degree", "share", "lower", "upper", "approximate"),
    [
        (100, 3, 0.1, 0.114, 0.333, 0.221),
        (100, 3, 1, 0.589, 0.901, 0.685),
        (100, 3, 10, 0.915, 0.915, 0.915),
        (400, 3, 0.03, 0.034, 0.141, 0.090),
        (400, 3, 1, None, None, 0.662),
        (400, 3, 3, 0.848, 0.892, 0.862),
        (800, 2, 0.1, 0.063, 0.395, 0.165),
        (800, 2, 3, 0.606, 0.637, 0.619),
    ],
)
def test_bounds_and_branching(size: int, degree: float, share: float, lower: float | None, upper: float | None, approximate: float) -> None:
    t = [share * size * (size - 1)]
    low, high = bounds(size, degree, t)
    if lower is not None:
        assert (low[0], high[0]) == pytest.approx((lower, upper), abs=1e-3)
    assert branching(size, degree, t)[0] == pytest.approx(approximate, abs=3e-3)


def test_the_asymptotic_lower_bound_is_above_the_truth_near_the_plateau() -> None:
    relations = source(100, 3, 0)
    t = [10 * 100 * 99]
    assert bounds(100, 3, t)[0][0] > expected_accuracy(relations, t)[0]  # so code is tested against the exact formula
