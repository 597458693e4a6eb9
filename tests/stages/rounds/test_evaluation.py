"""Evaluation: what it asks with, what it refuses to judge, and how format is told from ability."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.config import Recipe, build_recipe, dump_recipe
from pipeline.engines.base import Completion, Request
from pipeline.errors import DataError
from pipeline.prompts import Prompts
from pipeline.round import Round
from pipeline.rows import Kept, Row
from pipeline.rundir import RunDir
from pipeline.runner.llm import LLM
from pipeline.store import files
from stages.reports import table
from stages.rounds import evaluation, measures
from stages.tasks import freeze as freezing
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe

TASK = {"task_id": "t", "question": "2 + 3?", "answer": "5", "answer_type": "number", "options": None}


async def evaluated(recipe: Recipe, text: str, **task: Any) -> tuple[dict[str, Any], list[Request]]:
    """Return the judged greedy answer to a question that is always answered with `text`, and the requests."""
    requests: list[Request] = []

    async def send(request: Request) -> list[Completion]:
        requests.append(request)
        return [Completion(text, "stop", 3, 7)] * request.n

    llm = LLM(send, "t", "m@1", recipe.sampling, 1, Prompts.of(recipe))
    outcome = await evaluation.stage(recipe).row(Row("t", TASK | task), llm)  # type: ignore[misc]
    assert isinstance(outcome, Kept)
    return outcome.rows[0].payload["greedy"], requests


async def test_evaluation_samples_as_the_recipe_does_but_greedily_and_without_its_seed() -> None:
    sampling = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 9, "seed": 3, "logprobs": 2, "stop": ["#"]}
    sampling["extra"] = {"stop_token_ids": [151645]}
    recipe = tiny_recipe(sampling=sampling, evaluate={"samples": 2, "temperature": 0.5, "max_tokens": 20})
    _, (greedy, sampled) = await evaluated(recipe, "\\boxed{5}")
    assert (greedy.sampling.temperature, sampled.sampling.temperature) == (0, 0.5)
    for request in (greedy, sampled):
        assert request.sampling.extra == {"stop_token_ids": [151645]} and request.sampling.stop == ("#",)
        assert request.sampling.max_tokens == 20 and request.sampling.top_p == 0.9
        assert request.sampling.seed is None and request.sampling.logprobs is None


@pytest.mark.parametrize(
    ("text", "correct", "loose", "problem"),
    [
        ("\\boxed{5}", True, True, ""),
        ("It makes 5.", False, True, "no_marked_answer"),
        ("Answer: 6", False, False, ""),
        ("Answer: 5%", False, False, "not_comparable"),
        ("<think>\\boxed{5}", False, False, "no_marked_answer"),
    ],
)
async def test_each_answer_is_judged_strictly_and_loosely(
    text: str, correct: bool, loose: bool, problem: str
) -> None:
    judged, _ = await evaluated(tiny_recipe(), text)
    assert (judged["correct"], judged["loose"], judged["problem"]) == (correct, loose, problem)


async def test_a_verifier_of_the_user_s_own_reads_for_itself() -> None:
    judged, _ = await evaluated(tiny_recipe(verifier="tests.stages.steps.test_verifiers:own"), "no good")
    assert judged["correct"] and "loose" not in judged


# ---- what cannot be judged ----


def frozen(tmp_path: Path, columns: dict[str, Any], **changes: Any) -> tuple[RunDir, Recipe]:
    """Return a run with 20 questions, 5 of them held out.

    Each row has the columns question, answer, wrong.
    """
    (tmp_path / "q.jsonl").write_text(
        "".join(f'{{"question": "Q {i}?", "answer": "{i}"}}\n' for i in range(20))
    )
    tasks = {"source": "jsonl", "path": str(tmp_path / "q.jsonl"), "columns": columns}
    run, recipe = RunDir(tmp_path / "run"), tiny_recipe(tasks=tasks, held_out={"count": 5}, **changes)
    freeze(run, recipe)
    return run, recipe


@pytest.mark.parametrize(
    ("columns", "changes", "problem"),
    [
        (
            {"answer": None},
            {"verifier": "majority_vote"},
            r"held_out: 5 of 5 questions have no answer.*held_out: \{",
        ),
        ({"answer": None}, {}, r"held_out: 5 of 5 questions have no answer"),
        (
            {},
            {"verifier": "task_scorer"},
            r"held_out: 5 of 5 questions have no scorer of their own.*ground_truth",
        ),
        (
            {},
            {"evaluate": {"how": "loglikelihood"}},
            r"held_out: 5 of 5 questions have no options.*columns.options",
        ),
        (
            {"answer": None},
            {"evaluate": {"how": "perplexity"}},
            r"held_out: 5 of 5 questions have neither solution nor answer.*columns.solution",
        ),
        ({"answer": None}, {"verifier": "accept_all"}, r"held_out: verifier: accept_all judges nothing"),
        ({}, {"evaluate": {"verifier": "accept_all"}}, r"held_out: verifier: accept_all judges nothing"),
        ({}, {"verifier": "accept_all"}, ""),
        ({}, {"evaluate": {"how": "perplexity"}}, ""),
        ({}, {}, ""),
        ({}, {"verifier": "tests.stages.steps.test_verifiers:own"}, ""),
    ],
)
def test_questions_that_cannot_be_judged_are_refused_in_one_sentence(
    columns: dict[str, Any], changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    run, recipe = frozen(tmp_path, columns, **changes)
    if not problem:
        evaluation.check_answers(run, recipe)
        return
    with pytest.raises(DataError, match=problem):
        evaluation.check_answers(run, recipe)


@pytest.mark.parametrize(
    ("columns", "verifier", "problem"),
    [
        ({}, "task_scorer", "tasks: 1 of 1 questions have no scorer"),
        ({"answer": None}, "ground_truth", "tasks: 1 of 1 questions have no answer"),
        ({"answer": None}, "majority_vote", ""),
        ({}, "ground_truth", ""),
    ],
)
def test_tasks_that_verify_could_not_judge_are_refused(
    columns: dict[str, Any], verifier: str, problem: str, tmp_path: Path
) -> None:
    run, recipe = frozen(tmp_path, columns, verifier=verifier)
    if not problem:
        evaluation.check_tasks(run, recipe)
        return
    with pytest.raises(DataError, match=problem):
        evaluation.check_tasks(run, recipe)


# ---- measures and tables ----


def judged(correct: bool, loose: bool | None, extracted: str | None = "5") -> dict[str, Any]:
    found = {"correct": correct, "extracted": extracted, "tokens": 4}
    return found if loose is None else found | {"loose": loose}


def measured(tmp_path: Path, answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the measures of a run whose base model gave these judged answers."""
    run, recipe = RunDir(tmp_path / "run"), tiny_recipe(evaluate={"bootstrap": 100})
    rows = [
        Row(f"e{i}", TASK | {"task_id": f"t{i}", "greedy": greedy, "samples": []})
        for i, greedy in enumerate(answers)
    ]
    freezing._write(run, "../rounds/base/evaluate", rows)
    return measures.measures(Round(run, "base", recipe))


def test_measures_tell_format_from_ability(tmp_path: Path) -> None:
    found = measured(
        tmp_path, [judged(True, True), judged(False, True, None), judged(False, False), judged(False, False)]
    )
    assert (found["n"], found["parsed"]) == (4, 3)
    assert (found["greedy"]["mean"], found["loose"]["mean"]) == (0.25, 0.5)


def test_rows_of_older_versions_are_measured_without(tmp_path: Path) -> None:
    found = measured(tmp_path, [judged(True, None), judged(False, None, None)])
    assert "loose" not in found and found["parsed"] == 1 and found["greedy"]["mean"] == 0.5


def test_the_words_of_the_mark_reach_rows_prompts_and_readers(tmp_path: Path) -> None:
    words = ["答案", "Answer"]
    run, recipe = frozen(
        tmp_path, {}, answer_marks=words, prompts={"direct/solve": "[[user]]\n{{ answer_mark }}: X"}
    )
    assert {tuple(row.payload["answer_marks"]) for row in run.rows(run.tasks("train"))} == {tuple(words)}
    assert Prompts.of(recipe).render("direct/solve")[0]["content"] == "答案: X"
    Prompts.of(recipe).check_replaced()
    plain = tiny_recipe()
    assert plain.answer_marks == [] and Prompts.of(plain).render("direct/short", question="Q", options=None)
    assert build_recipe({"name": "r", "tasks": {"source": "jsonl", "path": "x"}}).answer_marks == []
    assert "answer_marks: []" in dump_recipe(plain)


FIGURES = {
    "round": 1,
    "n": 200,
    "greedy": {"mean": 0.045, "low": 0.02, "high": 0.08},
    "seconds": 1,
    "parsed": 30,
}
LOOSE = {"mean": 0.31, "low": 0.25, "high": 0.38}


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({}, ["15% readable"]),
        ({"loose": LOOSE}, ["15% readable", "31.0% read loosely"]),
        ({"loose": FIGURES["greedy"]}, ["15% readable"]),
        ({"parsed": None}, ["- readable"]),
    ],
)
def test_every_accuracy_stands_beside_the_share_that_could_be_read(
    more: dict[str, Any], shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loose accuracy is shown where it is beyond the interval.

    Evaluations of older versions have none.
    """
    run = RunDir(tmp_path / "run")
    run.freeze(tiny_recipe())
    Path(run.stage(0, "evaluate")).mkdir(parents=True)
    figures = FIGURES | {"round": 0} | more
    files.write_json(run.evaluation(0), figures | {"sets": {"far": figures}})
    for width in (100, 160):
        console = Console(width=width, record=True)
        monkeypatch.setattr(table, "console", console)
        table.rounds_table(run)
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= width
        assert all("".join(line.split()) in "".join(text.split()) for line in shown) or width == 100
        assert ("loosely" in text) == (len(shown) > 1)
    assert table._accuracy(figures, "accuracy") == ["4.5% [2.0%, 8.0%]", *shown]
    assert table._accuracy(figures, "reward") == ["4.5% [2.0%, 8.0%]"]
