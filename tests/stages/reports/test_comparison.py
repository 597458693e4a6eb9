"""Arms side by side and against each other, and which questions flipped."""

from pathlib import Path

import pytest

from stages.reports.comparison import arms, compare, print_comparison
from stages.reports.flips import between, flips
from tests.stages.reports.evaluated import evaluated

NAMES = [f"{letter}{i}" for letter in "abcd" for i in range(10)]


def right(*wrong: str) -> dict[str, bool]:
    return {name: not name.startswith(wrong) for name in NAMES}


@pytest.fixture
def runs(tmp_path: Path) -> list:
    """An arm with two seeds, and one that knows the questions of another document, with one."""
    start = right("a", "b")
    return [
        evaluated(tmp_path / "one", {0: start, 1: right("a"), 2: right("a")}, seed=0),
        evaluated(tmp_path / "two", {0: start, 1: right("a"), 2: right("a", "d1")}, seed=1),
        evaluated(
            tmp_path / "better", {0: start, 1: right("c1")}, method={"name": "direct", "samples": 2}, rounds=1
        ),
    ]


def test_arms_are_compared_with_each_other_in_the_rounds_both_have(runs, capsys) -> None:
    first, second = compare(runs)
    assert first["against"] == [] and first["seeds"] == 2
    assert first["last_minus_round_0"]["mean"] == pytest.approx(0.25 - 0.0125)
    [against] = second["against"]
    assert against["arm"] == first["arm"] and list(against["rounds"]) == ["1"]
    found = against["rounds"]["1"]
    assert (
        found["mean"] == pytest.approx(0.225)
        and found["n"] == 40
        and 0 < found["low"] < 0.225 < found["high"]
    )
    print_comparison([first, second])
    printed = capsys.readouterr().out
    assert "arm against arm, paired by question" in printed and "+22.5%" in printed


def test_questions_about_one_document_count_as_one(tmp_path: Path) -> None:
    answers = {0: right("a", "b"), 1: right("a")}
    apart = compare([evaluated(tmp_path / "q", answers)])[0]["last_minus_round_0"]
    together = compare([evaluated(tmp_path / "d", answers, document=True)])[0]["last_minus_round_0"]
    assert apart["mean"] == together["mean"] == 0.25
    assert apart["low"] > 0.05 and (together["low"], together["high"]) == (0.0, 0.75)


def test_arms_without_a_common_question_are_not_compared(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", {1: {"x": True}, 0: {"x": True}})
    other = evaluated(
        tmp_path / "other", {1: {"y": True}, 0: {"y": True}}, method={"name": "direct", "samples": 2}
    )
    assert compare([one, other])[1]["against"][0]["rounds"] == {}


def test_flips_name_the_questions_and_both_answers(tmp_path: Path) -> None:
    run = evaluated(
        tmp_path / "run", {0: {"a": True, "b": None, "c": False}, 1: {"a": False, "b": True, "c": False}}
    )
    found = between((run, 0), (run, 1), 5)
    assert (found["n"], found["won"], found["lost"]) == (3, 1, 1)
    assert found["won_questions"] == [
        {"task_id": "b", "question": "What is b?", "truth": "the b", "old": None, "new": "It is the b"}
    ]
    assert found["lost_questions"][0]["old"] == "It is the a"
    assert between((run, 0), (run, 1), 0)["won_questions"] == []


def test_flips_of_an_arm_are_against_the_first_one(runs) -> None:
    one, better = arms(runs)
    own = flips(one, [], 2)
    assert [(f["old"]["round"], f["new"]["round"], f["won"], f["lost"]) for f in own] == [
        (0, 2, 10, 0),
        (0, 2, 10, 1),
    ]
    assert len(own[0]["won_questions"]) == 2
    [other] = flips(better, [one], 2)
    assert (other["old"]["run"], other["old"]["round"]) == (runs[0].root, 1)
    assert (other["won"], other["lost"]) == (10, 1)
