"""Choosing: the highest reward is kept, the lowest told apart, ties settled alike, the truth ignored."""

import asyncio
import math
import random
from collections import Counter
from typing import Any

import pytest

from pipeline.engines.base import Completion
from pipeline.rows import Dropped, Row
from pipeline.runner.steps import rows_in, run_steps
from stages.methods.best_of_n import rewards
from stages.methods.best_of_n.rewards import best_and_worst, likelihoods


def answer(task: str, name: str, loglikelihood: float, key: str = "", right: bool | None = None) -> Row:
    said = {"extracted": key, "key": key} if key else None
    known = {"rewards": {"loglikelihood": loglikelihood, "random": 0.0}, "vote": said, "truth": right}
    return Row(f"{task}-{name}", {"task_id": task, "text": f"text {name}", **known})


def outcomes(rows: list[Row], reward: str = "loglikelihood", keep: int = 1, seed: int = 0) -> dict[str, str]:
    found = list(best_and_worst(reward, keep, seed)(lambda: iter(rows)))
    assert Counter(row.id for row, _ in found) == Counter(row.id for row in rows)
    return {row.id: o.reason if isinstance(o, Dropped) else "kept" for row, o in found}


def test_the_highest_is_kept_and_the_lowest_is_worst():
    rows = [answer("q", n, v) for n, v in (("a", -3.0), ("b", -1.0), ("c", -2.0))] + [answer("p", "d", -9.0)]
    assert outcomes(rows) == {"q-a": "worst", "q-b": "kept", "q-c": "not_best", "p-d": "kept"}
    assert outcomes(rows, keep=2) == {"q-a": "worst", "q-b": "kept", "q-c": "kept", "p-d": "kept"}
    assert set(outcomes(rows, keep=3).values()) == {"kept"}


def test_equal_rewards_have_no_worst_and_are_drawn_by_the_seed():
    rows = [answer("q", n, -1.0) for n in "abcdef"]
    found = outcomes(rows)
    assert Counter(found.values()) == {"kept": 1, "not_best": 5}
    assert outcomes(rows, "random") == found, "random settles everything as ties are settled"
    for i in range(5):
        random.Random(i).shuffle(rows)
        assert outcomes(rows) == found
    drawn = {next(i for i, why in outcomes(rows, seed=s).items() if why == "kept") for s in range(30)}
    assert len(drawn) > 3


def test_votes_are_counted_over_the_question():
    keys = {"a": "4", "b": "4", "c": "5", "d": "4", "e": "6"}
    found = outcomes([answer("q", n, -1.0, key) for n, key in keys.items()], "vote")
    assert next(n for n, why in found.items() if why == "kept")[-1] in "abd"
    assert next(n for n, why in found.items() if why == "worst")[-1] in "ce"
    [best] = [
        r
        for r, o in best_and_worst("vote", 1, 0)(
            lambda: iter([answer("q", n, -1.0, key) for n, key in keys.items()])
        )
        if o is None
    ]
    assert best.payload["verdict"] == {
        "correct": True,
        "extracted": "4",
        "problem": "",
        "score": 0.6,
        "by": "vote",
    }


@pytest.mark.parametrize("reward", ["loglikelihood", "vote", "random"])
def test_the_truth_chooses_nothing(reward: str):
    rng = random.Random(0)
    made = [(f"q{i % 7}", str(i), rng.choice([-1.0, -2.0]), rng.choice("45")) for i in range(60)]
    guesses: list[list[bool | None]] = [[rng.random() < 0.5 for _ in made] for _ in range(3)] + [[None] * 60]
    found = [
        outcomes([answer(*m, right=g) for m, g in zip(made, guess, strict=True)], reward) for guess in guesses
    ]
    assert found == [found[0]] * 4


def test_dropped_answers_keep_their_score_through_files(tmp_path: Any):
    rows = [answer("q", n, v) for n, v in (("a", -3.0), ("b", -1.0), ("c", -2.0))]
    [entry] = run_steps({"best": best_and_worst("loglikelihood", 1, 0)}, lambda: iter(rows), str(tmp_path))
    assert entry.rows_in == 3 and entry.rows_out == 1 and entry.dropped == {"worst": 1, "not_best": 1}
    dropped = {row.id: row.payload["verdict"]["score"] for row in rows_in(str(tmp_path / "dropped"))}
    assert dropped == {"q-a": -3.0, "q-c": -2.0}


def test_likelihoods_are_the_sum_and_the_mean():
    of = lambda logprobs: likelihoods(Completion("text", "stop", 1, 2, logprobs))  # noqa: E731
    assert of([-1.0, -3.0]) == {"loglikelihood": -4.0, "loglikelihood_per_token": -2.0}
    assert of(None) == of([]) == of([-1.0, -math.inf]) == {}


@pytest.mark.parametrize(
    ("task", "right"),
    [({"answer": "4"}, True), ({"answer": "5"}, False), ({"answer": None}, None), ({}, None)],
)
def test_truth_is_what_the_task_knows(task: dict[str, Any], right: bool | None):
    payload = {"text": "Answer: 4", "answer_type": "number", **task}
    assert asyncio.run(rewards.truth(payload, by_tests=False)) is right
