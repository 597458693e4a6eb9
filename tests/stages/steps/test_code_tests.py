"""The verifier code_tests, and tasks with tests."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Source
from pipeline.errors import DataError
from pipeline.prompts import SHIPPED
from stages.rounds.evaluation import _problem
from stages.sandbox import isolation_problem
from stages.steps.asking import ask
from stages.steps.code_tests import code_tests
from stages.tasks.read import read_tasks
from tests.stages.tasks import layouts

isolated = pytest.mark.skipif(bool(isolation_problem()), reason=f"no isolation: {isolation_problem()}")
TESTS = {"asserts": "assert f(1) == 2\nassert f(2) == 4", "entry_point": "f"}


def payload(text: str, **more: Any) -> dict[str, Any]:
    return {"task_id": "t", "question": "?", "answer_type": "code", "tests": TESTS, "text": text, **more}


@isolated
@pytest.mark.parametrize(
    ("text", "correct", "problem", "score"),
    [
        ("So:\n```python\ndef f(x): return 2 * x\n```", True, "", 1.0),
        ("```python\ndef f(x): return x + 1\n```", False, "", 0.5),
        ("```python\ndef f(x): return 2 * x\n", True, "", 1.0),  # the fence was never closed
        ("I cannot.", False, "no_program", None),
        ("```python\ndef f(x: return\n```", False, "", 0.0),
    ],
)
def test_a_program_is_right_if_all_its_tests_pass(
    text: str, correct: bool, problem: str, score: float | None
) -> None:
    verdict = code_tests(payload(text))
    assert (verdict.correct, verdict.problem, verdict.score) == (correct, problem, score)
    assert bool(verdict.detail) == (not correct and not problem)


@isolated
def test_tests_that_hand_over_a_function_judge_nothing() -> None:
    tests = {"asserts": "assert f(lambda x: x) == 2", "entry_point": "f"}
    verdict = code_tests(payload("```python\ndef f(g): return 2\n```", tests=tests))
    assert not verdict.correct and verdict.problem == "tests_unsupported"


def test_a_task_without_tests_is_an_error() -> None:
    with pytest.raises(DataError, match=r"no tests.*tasks\.columns\.tests"):
        code_tests(payload("x = 1", tests=None))
    assert "columns.tests" in _problem("code_tests", [{"answer": None}])
    assert "verifier: code_tests" in _problem("ground_truth", [{"answer": None, "tests": TESTS}])


@pytest.mark.parametrize(
    ("preset", "tests", "shown"),
    [
        ("humaneval", {"asserts": layouts.HUMANEVAL[0]["test"], "entry_point": "double"}, ""),
        (
            "mbpp",
            {"asserts": "assert double(1) == 2\nassert double(2) == 4", "entry_point": ""},
            "such as `assert double(1) == 2`.",
        ),
        ("apps", {"streams": [{"input": "1\n", "output": "2\n"}], "entry_point": ""}, ""),
    ],
)
def test_public_layouts_become_tasks_with_tests(
    preset: str, tests: dict[str, Any], shown: str, tmp_path: Path
) -> None:
    path = layouts.write(tmp_path, preset, "jsonl")
    task, *_ = read_tasks(Source(source="jsonl", path=str(path), preset=preset), seed=0).rows
    assert task.payload["tests"] == tests
    asked = ask(SHIPPED, task.payload)[-1]["content"]
    assert "```python" in asked and ("such as" in asked) == bool(shown) and shown in asked


def test_a_called_function_is_named(tmp_path: Path) -> None:
    tests = {"calls": [{"input": [1, "a"], "output": [2]}], "entry_point": "pair"}
    asked = ask(SHIPPED, payload("", tests=tests))[-1]["content"]
    assert "`assert pair(1, 'a') == [2]`" in asked
