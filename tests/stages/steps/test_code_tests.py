"""The verifier code_tests, and tasks with tests."""

import json
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
    ("preset", "row", "tests"),
    [
        (
            "humaneval",
            {
                "task_id": "HumanEval/0",
                "prompt": 'def f(x):\n    """Double x."""\n',
                "canonical_solution": "    return 2 * x\n",
                "test": "def check(candidate):\n    assert candidate(1) == 2\n",
                "entry_point": "f",
            },
            {"asserts": "def check(candidate):\n    assert candidate(1) == 2\n", "entry_point": "f"},
        ),
        (
            "mbpp",
            {
                "task_id": 1,
                "text": "Write a function f that doubles.",
                "code": "def f(x): return 2 * x",
                "test_list": ["assert f(1) == 2", "assert f(2) == 4"],
                "test_setup_code": "",
                "challenge_test_list": [],
            },
            {"asserts": "assert f(1) == 2\nassert f(2) == 4", "entry_point": ""},
        ),
        (
            "apps",
            {
                "problem_id": 0,
                "question": "Double the number.",
                "solutions": json.dumps(["print(2 * int(input()))"]),
                "input_output": json.dumps({"inputs": ["1\n"], "outputs": ["2\n"]}),
                "difficulty": "introductory",
                "url": "",
                "starter_code": "",
            },
            {"streams": [{"input": "1\n", "output": "2\n"}], "entry_point": ""},
        ),
    ],
)
def test_public_layouts_become_tasks_with_tests(
    preset: str, row: dict[str, Any], tests: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    source = Source.model_validate(
        {"source": "jsonl", "path": str(tmp_path / "rows.jsonl"), "preset": preset}
    )
    [task] = read_tasks(source, seed=0).rows
    assert task.payload["tests"] == tests
    assert "```python" in ask(SHIPPED, task.payload)[-1]["content"]
