"""Curves through points.

The paper's own curve is a golden figure; errors are those on points that were left out.
"""

import numpy as np
import pytest

from stages.reports.scaling import Point, draw, exponentials, fits, log_line


def paper(x: float) -> float:
    """Accuracy in per cent after x million tokens."""
    return 64.5456 - 13.8352 * 0.9989**x - 8.4705 * 0.8961**x - 3.932 * 0.0546**x


X = [0, 0.5, 1, 2, 5, 10, 20, 38, 70, 100, 200, 300, 455]


@pytest.mark.parametrize(
    ("x", "y"), [(0, 38.31), (1, 42.92), (10, 48.03), (38, 51.15), (100, 52.15), (455, 56.16)]
)
def test_three_exponentials_describe_the_papers_curve(x: float, y: float) -> None:
    assert paper(x) == pytest.approx(y, abs=0.01)
    assert exponentials(X, [paper(x) for x in X]).curve(np.array([x]))[0] == pytest.approx(y, abs=0.3)


def test_the_error_is_made_on_points_that_were_left_out() -> None:
    values = [paper(x) for x in X]
    mixture, line = exponentials(X, values), log_line(X, values)
    assert len(mixture.parameters["terms"]) == 3 and mixture.held_out_error < 0.5 < line.held_out_error < 1.5
    seen = np.sqrt(np.mean((line.curve(np.array(X[1:])) - values[1:]) ** 2))
    assert line.held_out_error > seen


def test_a_straight_line_is_found_exactly() -> None:
    fit = log_line([0, 1, 10, 100], [0.1, 0.3, 0.5, 0.7])
    assert fit.parameters["per_e_fold"] == pytest.approx(
        0.2 / np.log(10)
    ) and fit.held_out_error == pytest.approx(0, abs=1e-9)


def test_few_points_get_few_terms_and_two_no_error() -> None:
    assert len(exponentials([0, 1, 2, 4], [0.2, 0.3, 0.35, 0.38]).parameters["terms"]) == 1
    assert log_line([1, 2], [0.1, 0.2]).held_out_error is None
    falling = exponentials([0, 1, 2, 4], [0.4, 0.3, 0.2, 0.1])
    assert falling.parameters["limit"] == pytest.approx(0.25)


def test_seeds_of_one_budget_are_no_three_budgets() -> None:
    seeds = [
        Point("raw", n, a, 0.2, 0.6, None, budget=100_000)
        for n, a in ((99_871, 0.55), (99_912, 0.5), (99_940, 0.58))
    ]
    assert fits(seeds) == {}
    more = [
        Point("raw", n - 50_000 * k, a - k / 10, 0.2, 0.6, None, budget=100_000 - 40_000 * k)
        for k in (0, 1)
        for _, n, a, *_ in seeds
    ]
    line = fits([*more, Point("raw", 10_000, 0.3, 0.2, 0.4, None, budget=10_000)])["raw"]["log_line"]
    assert 0 < line.parameters["per_e_fold"] < 0.2


def test_an_arm_that_saw_its_whole_corpus_at_every_budget_is_one_point() -> None:
    assert (
        fits(
            [
                Point("raw", 6_000, a, 0.2, 0.6, None, budget=b)
                for b, a in ((25_000, 0.4), (50_000, 0.5), (100_000, 0.5))
            ]
        )
        == {}
    )
    assert exponentials([5, 5, 5], [0.3, 0.3, 0.6]).parameters == {"limit": pytest.approx(0.4), "terms": []}


def test_arms_are_drawn_and_fitted_apart(tmp_path) -> None:
    found = [
        Point(arm, n, 0.25 + n / 1e6 * slope, 0.2, 0.5, 12.0)
        for arm, slope in (("entigraph", 2), ("raw", 1))
        for n in (10_000, 20_000, 40_000)
    ]
    found += [Point("untrained", 0, 0.25, 0.2, 0.3, 12.0), Point("rephrase", 10_000, 0.3, 0.2, 0.4, None)]
    curves = fits(found)
    assert curves.keys() == {"entigraph", "raw"}
    draw(found, curves, str(tmp_path / "plot.png"))
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
