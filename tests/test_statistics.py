"""Statistics against closed forms and brute force."""

from itertools import combinations
from math import isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.statistics import bootstrap, flips, majority, paired_difference, pass_at_k


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws_with_a_right_answer(case: tuple[int, int, int]) -> None:
    n, correct, k = case
    draws = list(combinations([1] * correct + [0] * (n - correct), k))
    assert pass_at_k(n, correct, k) == pytest.approx(sum(any(d) for d in draws) / len(draws))


def test_pass_at_k_needs_k_samples() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        pass_at_k(4, 1, 5)


@pytest.mark.parametrize(
    ("answers", "winner"),
    [(["a", "b", "b"], "b"), (["b", "a"], "b"), ([None, None, "a"], "a"), ([None], None), ([], None)],
)
def test_majority(answers: list, winner: str | None) -> None:
    assert majority(answers) == winner


def test_bootstrap() -> None:
    assert bootstrap([1, 1, 1]) == (1, 1, 1)
    assert isnan(bootstrap([]).mean)
    values = [1.0] * 60 + [0.0] * 40
    found = bootstrap(values)
    assert found == bootstrap(values) and found.mean == pytest.approx(0.6)
    # the normal approximation: 0.6 +- 1.96 sqrt(0.24 / 100)
    assert found.low == pytest.approx(0.504, abs=0.02) and found.high == pytest.approx(0.696, abs=0.02)


def test_pairs_stay_pairs() -> None:
    """Questions of which each gets better by the same amount: the difference is certain, however much the questions differ."""
    old = {str(i): float(i % 2) for i in range(50)}
    assert paired_difference(old, {k: v + 0.5 for k, v in old.items()}) == (0.5, 0.5, 0.5)
    assert paired_difference({"a": 1.0, "b": 0.0}, {"b": 1.0, "c": 0.0}).mean == 1.0
    assert flips({"a": 1.0, "b": 0.0, "c": 1.0}, {"a": 0.0, "b": 1.0, "d": 1.0}) == (1, 1)


def test_whole_clusters_are_resampled() -> None:
    values, clusters = [1.0] * 10 + [0.0] * 10, ["a"] * 10 + ["b"] * 10
    by_question, by_cluster = bootstrap(values, 500, 0), bootstrap(values, 500, 0, clusters)
    assert by_cluster.mean == by_question.mean == 0.5
    assert (by_cluster.low, by_cluster.high) == (0.0, 1.0) and by_question.low > 0.2
    old, new = {"q1": 0.0, "q2": 0.0, "q3": 1.0}, {"q1": 1.0, "q2": 1.0, "q3": 1.0}
    assert paired_difference(old, new, 500, 0, {"q1": "a", "q2": "a", "q3": "b"}).low == 0.0
