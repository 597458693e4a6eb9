"""What the report says about rewards, against figures computed by hand."""

import pytest

from pipeline.rows import Row
from stages.methods.best_of_n import agreement
from stages.methods.best_of_n.agreement import Answer, shown


def question(*answers: tuple[float, int, bool | None]) -> list[Answer]:
    return [
        Answer({"loglikelihood": value, "random": 0.0}, tokens, right) for value, tokens, right in answers
    ]


QUESTIONS = [
    question((-1.0, 10, True), (-2.0, 10, False), (-3.0, 20, False), (-0.5, 20, False)),
    question((-1.0, 10, True), (-1.0, 20, False)),  # a tie: either is chosen
    question((-1.0, 10, False), (-2.0, 12, False)),
]


def test_accuracy_of_choices():
    found = agreement.agreement(QUESTIONS, 200)
    measured = found["rewards"]["loglikelihood"]
    assert (found["questions"], found["known"], found["answers"]) == (3, 3, 8)
    assert found["mean"]["mean"] == pytest.approx((0.25 + 0.5 + 0) / 3)
    assert found["best_possible"]["mean"] == pytest.approx(2 / 3)
    assert measured["chosen"]["mean"] == pytest.approx((0 + 0.5 + 0) / 3)
    assert measured["gain"]["mean"] == pytest.approx((-0.25 + 0 + 0) / 3)
    assert measured["gain"]["low"] <= measured["gain"]["mean"] <= measured["gain"]["high"]
    assert set(found["rewards"]) == {"loglikelihood", "longest", "shortest"}, "random measures nothing"


def test_auc_and_length():
    measured = agreement.agreement(QUESTIONS, 200)["rewards"]
    likelihood = measured["loglikelihood"]
    assert likelihood["auc"]["mean"] == pytest.approx((2 / 3 + 0.5) / 2) and likelihood["auc"]["n"] == 2
    assert likelihood["auc_at_equal_length"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 1}
    assert likelihood["longer"]["mean"] == pytest.approx((20 - 15 + 0 + 10 - 11) / 3)
    assert measured["shortest"]["auc"]["mean"] == pytest.approx((2.5 / 3 + 1) / 2)
    assert measured["longest"]["length_correlation"]["mean"] == pytest.approx(1)
    assert measured["shortest"]["length_correlation"]["mean"] == pytest.approx(-1)


def test_without_truth_only_lengths_are_measured():
    found = agreement.agreement([question((-1.0, 5, None), (-2.0, 9, None))], 200)
    measured = found["rewards"]["loglikelihood"]
    assert found["known"] == 0 and found["mean"] is measured["chosen"] is measured["auc"] is None
    assert measured["longer"]["mean"] == -2.0 and shown(found["mean"]) == "-"


def test_an_answer_without_the_reward_ranks_last():
    known, unknown = Answer({"verifier": 0.1}, 5, True), Answer({}, 5, False)
    measured = agreement.agreement([[known, unknown]], 200)["rewards"]["verifier"]
    assert measured["chosen"]["mean"] == measured["auc"]["mean"] == 1


def test_a_summary_without_answers_is_empty():
    assert agreement.summary("vote", 200, [], [("empty_answer", Row("a", {"text": ""}))]) == {}
