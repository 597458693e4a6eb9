"""Runs of SELF that end early, are branched or killed, or ask an endpoint."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from datasets import load_from_disk

from pipeline.engines.scripted import ScriptedClient
from pipeline.errors import StageError, StaleError
from pipeline.protocols import Proposals
from pipeline.round import Round
from pipeline.rows import Kept, Row
from pipeline.rundir import RunDir
from pipeline.runner.llm import LLM
from stages.rounds import proposing, questions
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.engines.server import Fault, LocalServer, Seen
from tests.stages.methods.self.rounds import asked, make, recipe_in
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(300)]


def test_a_demonstrated_question_is_no_new_one(tmp_path: Path, tiny_model: Path) -> None:
    """Its answer is published as real data; the model's own must not stand beside it."""
    (tmp_path / "worked.jsonl").write_text('{"question": "What is 88 + 77?", "answer": 165}\n')
    run, recipe = (
        RunDir(tmp_path / "run"),
        recipe_in(
            tmp_path, tiny_model, demonstrations={"source": "jsonl", "path": str(tmp_path / "worked.jsonl")}
        ),
    )
    freeze(run, recipe)
    stage = proposing.stage(Round(run, 2, recipe), Proposals(5, 4, 0.7), recipe)
    rows = [Row("a", {"question": "What is 88 + 77?"})]
    assert [why.reason for _, why in stage.steps["new"](lambda: iter(rows))] == ["near_duplicate"]
    assert [
        why for _, why in stage.steps["new"](lambda: iter([Row("z", {"question": "How many jars has Zoe?"})]))
    ] == [None]


async def test_a_critic_that_says_yes_to_all_stops_the_run_before_anything_is_learnt(
    tmp_path: Path, in_process: None, tiny_model: Path
) -> None:
    run = RunDir(tmp_path / "run")
    recipe = recipe_in(tmp_path, tiny_model, "yes_man", method={"new_questions": {"calls": 0}})
    with pytest.raises(
        StageError,
        match=r"the critic approved 40 of 40 answers \(100.0%\), more than method.max_positive = 95%",
    ):
        await make(run, recipe, (2,))
    assert (
        run.manifest(run.stage(2, "critique")) is None and run.manifest(run.stage(2, "generate")) is not None
    )
    before = len(asked(run, 2, "critique"))
    with pytest.raises(StageError, match="the critic approved"):
        await make(run, recipe, (2,))
    assert len(asked(run, 2, "critique")) == before, "the same command again pays for nothing"


async def test_what_a_round_asked_is_not_asked_again_by_a_branch_with_other_draws(
    tmp_path: Path, in_process: None, tiny_model: Path
) -> None:
    """Phase 1 was shown the answers.

    A branch may have another seed or number of questions, and the draw of round 1 is then another one.
    """
    run, recipe = RunDir(tmp_path / "run"), recipe_in(tmp_path, tiny_model)
    await make(run, recipe, (1,), "generate")
    asked_before = {row.payload["task_id"] for row in run.rows(run.stage(1, "generate"))}
    for changes in ({}, {"seed": 1}, {"questions_per_round": 30}):
        round_ = Round(run, 2, recipe_in(tmp_path, tiny_model, **changes))
        drawn = {row.id for row in questions.drawn(round_).rows()}
        assert (
            len(asked_before) == 40
            and not drawn & asked_before
            and len(drawn) == changes.get("questions_per_round", 40)
        ), changes


async def test_a_killed_critique_goes_on_in_the_middle_of_a_row(
    tmp_path: Path, on_ray: None, tiny_model: Path
) -> None:
    """Requests that were finished are not made again.

    The rows are those that an undisturbed asking gives.
    """
    run = RunDir(tmp_path / "run")
    recipe = recipe_in(tmp_path, tiny_model, "dies_once", f" [{tmp_path}/flag]", questions_per_round=12)
    loop = await make(run, recipe, (1,), "generate", "critique")
    log = Counter(r["key"] for r in asked(run, 1, "critique"))
    manifest = run.manifest(run.stage(1, "critique"))
    assert (tmp_path / "flag").exists() and manifest.requests.from_log > 0 and set(log.values()) == {1}
    undisturbed: dict[str, dict[str, Any]] = {}
    for row in run.rows(run.stage(1, "generate")):
        outcome = await loop.method.critique(
            row, LLM(ScriptedClient(recipe.engine).generate, row.id, manifest.model, recipe.sampling, 1)
        )
        undisturbed |= {made.id: made.payload for made in outcome.rows} if isinstance(outcome, Kept) else {}
    assert undisturbed == {row.id: row.payload for row in run.rows(run.stage(1, "critique"))}


def teacher(seen: Seen) -> Fault:
    """Answer as a good annotator does, and only that: it is asked nothing else."""
    text = seen.body["messages"][-1]["content"]
    a, b = (int(n) for n in re.findall(r"What is (\d+) \+ (\d+)\?", text)[-1])
    given = re.findall(r"Answer: (\d+)", text)[-1]
    verdict = "correct" if int(given) == a + b else "incorrect"
    said = f"Checked.\nAnswer: {a + b}" if "Check:" in text else f"{a} + {b} is {a + b}.\nVerdict: {verdict}"
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
    return Fault(
        body=orjson.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 5}})
    )


async def test_an_endpoint_annotates_phase_1_and_nothing_else(
    tmp_path: Path, in_process: None, tiny_model: Path
) -> None:
    async with LocalServer(plan=teacher) as server:
        endpoint = {"kind": "openai", "base_url": server.url, "model": "teacher"}
        recipe = recipe_in(tmp_path, tiny_model, method={"annotator": endpoint})
        run = RunDir(tmp_path / "run")
        await make(run, recipe, (1,), publish=True)
        assert server.requests == 2 * 40, "feedback and refinement of phase 1"
    critique = run.manifest(run.stage(1, "critique"))
    assert critique.model == f"teacher@{server.url}" != run.manifest(run.stage(1, "generate")).model
    log = asked(run, 1, "critique")
    assert {r["model"] for r in log} == {critique.model} and {r["step"] for r in log} == {
        "self/annotate_feedback",
        "self/annotate_refine",
    }
    quality = run.manifest(run.stage(1, "verify")).extra
    assert quality["precision"] == quality["verdict_accuracy"] == 1.0 and quality["initial_accuracy"] < 1
    published = load_from_disk(run.dataset("sft", 1))["train"]
    assert set(published["src_model"]) == {critique.model} and not any(published["src_hinted"])
    assert (
        f"Annotator: {critique.model}, whose judgment is trained on here: distillation"
        in Path(run.dataset("sft", 1), "README.md").read_text()
    )
    patient = run.recipe().model_dump(mode="json")
    patient["method"]["annotator"]["concurrency"] = 2
    await make(run, tiny_recipe(**patient), (1,), publish=True)
    patient["method"]["annotator"]["model"] = "other"
    with pytest.raises(StaleError, match=r"method\.annotator\.model"):
        await make(run, tiny_recipe(**patient), (1,))
