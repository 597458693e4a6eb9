"""Statistics against closed forms and brute force."""

from itertools import combinations
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.statistics import (
    Term,
    bootstrap,
    contrast,
    difference,
    flips,
    holm,
    majority,
    paired_difference,
    pass_at_k,
    proportion,
)


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
    """Questions of which each gets better by the same amount.

    The difference is certain, however much the questions differ.
    """
    old = {str(i): float(i % 2) for i in range(50)}
    found = paired_difference(old, {k: v + 0.5 for k, v in old.items()})
    assert found == pytest.approx((0.5, 0.5, 0.5))
    assert paired_difference({"a": 1.0, "b": 0.0}, {"b": 1.0, "c": 0.0}).mean == 1.0
    assert flips({"a": 1.0, "b": 0.0, "c": 1.0}, {"a": 0.0, "b": 1.0, "d": 1.0}) == (1, 1)


def test_whole_clusters_are_resampled() -> None:
    values, clusters = [1.0] * 10 + [0.0] * 10, ["a"] * 10 + ["b"] * 10
    by_question, by_cluster = bootstrap(values, 500, 0), bootstrap(values, 500, 0, clusters)
    assert by_cluster.mean == by_question.mean == 0.5
    assert (by_cluster.low, by_cluster.high) == (0.0, 1.0) and by_question.low > 0.2
    old, new = {"q1": 0.0, "q2": 0.0, "q3": 1.0}, {"q1": 1.0, "q2": 1.0, "q3": 1.0}
    assert paired_difference(old, new, 500, 0, {"q1": "a", "q2": "a", "q3": "b"}).low == 0.0


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_s_interval_inverts_the_score_test(case: tuple[int, int]) -> None:
    right, n = case
    mean, low, high = proportion([1.0] * right + [0.0] * (n - right))
    assert 0 <= low <= mean == right / n <= high <= 1 and low < high
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:
            assert abs(mean - bound) / (bound * (1 - bound) / n) ** 0.5 == pytest.approx(1.959964, abs=1e-4)


def test_a_proportion_of_clusters_or_of_scores_is_resampled() -> None:
    values, clusters = [1.0] * 10 + [0.0] * 10, ["a"] * 10 + ["b"] * 10
    assert proportion(values, 500, 0, clusters) == bootstrap(values, 500, 0, clusters)
    assert proportion([0.2, 0.9, 0.4]) == bootstrap([0.2, 0.9, 0.4])
    assert isnan(proportion([]).mean) and proportion([0.0] * 500).high == pytest.approx(0.0076, abs=1e-4)


def test_no_flip_at_all_is_no_certainty() -> None:
    same = {str(i): 0.0 for i in range(500)}
    mean, low, high = paired_difference(same, same)
    assert mean == 0 and -low == high == pytest.approx(1.96 * 2**0.5 / 502, rel=1e-3)
    lost, won = paired_difference({"q": 1.0}, {"q": 0.0}), paired_difference({"q": 0.0}, {"q": 1.0})
    assert lost.mean == lost.low == -1 < lost.high and won.mean == won.high == 1 > won.low


def test_closed_form_and_bootstrap_agree_where_both_apply() -> None:
    rng = np.random.default_rng(3)
    ids = [str(i) for i in range(400)]
    terms = [
        Term(w, dict(zip(ids, rng.integers(0, 2, 400) * 1.0, strict=True))) for w in (0.5, 0.5, -0.5, -0.5)
    ]
    closed, resampled = difference(terms), difference(terms, 4000, clusters={i: i for i in ids})
    assert closed.mean == resampled.mean and closed == pytest.approx(resampled, abs=0.005)


@pytest.mark.parametrize("shared", [True, False])
def test_the_interval_over_seeds_covers_the_truth(shared: bool) -> None:
    """Eight seeds answer 100 questions, the same ones or each its own; 95% of the intervals hold the gain of
    the population. Taking the seeds for independent, 77% do.
    """
    rng = np.random.default_rng(0)

    def population(n: int) -> tuple[np.ndarray, np.ndarray]:
        before = rng.beta(0.6, 0.6, n)
        return before, np.clip(before + rng.normal(0.1, 0.35, n), 0, 1)

    before, after = population(200_000)
    truth, seeds, n, times = (after - before).mean(), 8, 100, 250
    hits = 0
    for _ in range(times):
        terms, asked = [], population(n)
        for seed in range(seeds):
            asked = asked if shared else population(n)
            ids = [f"{0 if shared else seed}-{i}" for i in range(n)]
            for sign, chance in zip((-1, 1), asked, strict=True):
                answers = (rng.random(n) < chance) * 1.0
                terms.append(Term(sign / seeds, dict(zip(ids, answers, strict=True))))
        found = difference(terms)
        hits += found.low <= truth <= found.high
    assert 0.92 < hits / times < 0.985


def test_a_draw_that_leaves_a_run_without_questions_does_not_count() -> None:
    terms = [Term(1, {"a": 0.5}), Term(-1, {"b": 0.25, "c": 0.5})]
    found = difference(terms, 300)
    assert found.mean == pytest.approx(0.125) and 0 <= found.low <= found.high <= 0.25
    assert isnan(difference([Term(1, {"a": 1.0}), Term(-1, {})]).mean)


def test_the_p_value_by_hand() -> None:
    """10 questions won and 2 lost of 100, and one more of each, as in the docstring."""
    old = {str(i): float(i >= 10) for i in range(100)}
    new = {str(i): float(i < 98) for i in range(100)}
    mean, low, high, p = contrast([Term(1, new), Term(-1, old)])
    variance = (12 - 100 * 0.08**2 + 2 + 200 * 0.08**2 / 102) / 102**2
    z = 0.08 * 100 / 102 / variance**0.5
    assert mean == pytest.approx(0.08) and z == pytest.approx(2.1884, abs=1e-3)
    assert p == pytest.approx(0.0286, abs=1e-3) and 0 < low < 0.08 < high
    assert contrast([Term(1, old), Term(-1, old)]).p == 1.0


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 400))
def test_the_p_value_agrees_with_the_interval(won: int, lost: int, rest: int) -> None:
    ids = range(won + lost + rest)
    old = {str(i): float(won <= i < won + lost) for i in ids}
    new = {str(i): float(i < won) for i in ids}
    found = contrast([Term(1, new), Term(-1, old)])
    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
    assert found.interval == difference([Term(1, new), Term(-1, old)])


def test_the_p_value_of_clusters_is_the_share_of_draws() -> None:
    new = {f"{d}{i}": float(d != "a") for d in "abcdefgh" for i in range(5)}
    terms = [Term(1, new), Term(-1, dict.fromkeys(new, 0.0))]
    clear = contrast(terms, 4000, clusters={i: i[0] for i in new})
    assert clear.low > 0 and clear.p < 0.01
    assert contrast([Term(1, new), Term(-1, new)], 500, clusters={i: i[0] for i in new}).p == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []
    adjusted = holm([nan, 0.02])
    assert isnan(adjusted[0]) and adjusted[1] == 0.02


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_its_steps_reject(p_values: list[float]) -> None:
    """The textbook's procedure: reject from the smallest on, while p times the number left is below it."""
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, i in enumerate(order):
            if (len(p_values) - rank) * p_values[i] > level:
                break
            rejected.add(i)
        assert {i for i, a in enumerate(adjusted) if a <= level} == rejected
