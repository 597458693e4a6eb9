"""The judge is measured: against known answers, by length, and for approving of everything."""

import math
import random

import pytest

from pipeline.engines.base import Request
from pipeline.statistics import auc, rank_correlation, resampled
from tests.stages.judges.asked import Judged, answer, recipe_with, score, shown_texts

KNOWN = {"columns": {"answer": "answer"}, "source": "jsonl", "path": "t.jsonl"}


def sums(n: int, right: float = 0.5) -> list:
    """Answers to sums, of which a share is right, with two answers to each question."""
    rng = random.Random(1)
    return [
        answer(
            f"{i // 2}",
            f"{'so ' * rng.randrange(9)}\nAnswer: {i // 2 if rng.random() < right else -1}",
            i,
            answer=f"{i // 2}",
            answer_type="number",
        )
        for i in range(n)
    ]


def knows(request: Request) -> str:
    text = shown_texts(request)[0]
    return score(3 if "-1" in text else 8)


def test_a_judge_that_knows_the_answers_agrees_with_them() -> None:
    rows = sums(80)
    judged = Judged(recipe_with("judge", tasks=KNOWN), rows, knows)
    agreement = judged.summary["verifiers"]["judge"]["agreement"]
    assert agreement["n"] == 80 and agreement["right"] == len(judged.kept)
    assert agreement["precision"]["mean"] == agreement["recall"]["mean"] == agreement["auc"]["mean"] == 1
    assert "warnings" not in judged.summary and "AUC 1.00" in judged.summary["note"]


def test_one_that_guesses_is_said_to() -> None:
    rng = random.Random(4)
    judged = Judged(recipe_with("judge", tasks=KNOWN), sums(200), lambda _: score(rng.randint(1, 10)))
    facts = judged.summary["verifiers"]["judge"]
    assert facts["agreement"]["auc"]["low"] < 0.5 < facts["agreement"]["auc"]["high"]
    assert any("does not tell right from wrong" in w for w in judged.summary["warnings"])


def test_one_that_approves_of_everything_is_said_to() -> None:
    judged = Judged(
        recipe_with("judge"), [answer("q", f"text {i}", i) for i in range(30)], lambda _: score(10)
    )
    assert len(judged.kept) == 30 and "agreement" not in judged.summary["verifiers"]["judge"]
    warned = " ".join(judged.summary["warnings"])
    assert "approves of nearly everything" in warned and "the same score" in warned
    assert judged.summary["note"].endswith(judged.summary["warnings"][-1])


def test_one_that_goes_by_length_is_said_to() -> None:
    rows = [answer(f"q{i}", "w " * (1 + i), i) for i in range(40)]
    judged = Judged(recipe_with("judge"), rows, lambda r: score(1 + len(shown_texts(r)[0].split()) // 5))
    length = judged.summary["verifiers"]["judge"]["length"]
    assert length["mean"] > 0.9 and length["low"] > 0.8
    assert any("prefers long answers" in w for w in judged.summary["warnings"])


def test_unreadable_judgements_are_counted_and_said() -> None:
    rows = [answer("q", f"text {i}", i) for i in range(40)]
    judged = Judged(recipe_with("judge"), rows, lambda r: score(9) if "text 1" in str(r.messages) else "good")
    assert judged.summary["verifiers"]["judge"]["unreadable_share"] == pytest.approx(29 / 40)
    assert any("cannot be read" in w for w in judged.summary["warnings"])


def test_without_a_threshold_the_common_verdict_is_measured() -> None:
    rows = [answer(f"q{i // 4}", "w " * (1 + i % 4), i) for i in range(40)]
    verifier = {"kind": "judge", "threshold": None, "top_share": 0.5}
    judged = Judged(recipe_with(verifier), rows, lambda r: score(len(shown_texts(r)[0].split())))
    facts = judged.summary["verifiers"]
    assert facts["judge"]["approved_share"] is None and facts["verdict"]["approved_share"] == 0.5
    assert not any("approves" in warning for warning in judged.summary["warnings"])
    assert judged.summary["note"].startswith("judge scored 40 answers")


def test_statistics() -> None:
    assert auc([1, 2, 3, 4], [False, False, True, True]) == 1 and auc([1, 1], [True, False]) == 0.5
    assert auc([3, 1, 2], [False, True, True]) == 0 and math.isnan(auc([1, 2], [True, True]))
    assert rank_correlation([1, 2, 9], [10, 20, 21]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
    whole = resampled(lambda i: float(len(i)), ["a", "a", "b"], 200)
    assert whole.mean == 3 and (whole.low, whole.high) == (2, 4), "whole clusters are drawn"
    assert math.isnan(resampled(lambda i: math.nan, ["a"]).mean) and math.isnan(resampled(len, []).mean)
