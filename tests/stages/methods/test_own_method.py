"""A method outside the checkout, with its templates beside it: the example of stages/methods/README.md."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_from_disk

from pipeline.fingerprint import stored
from pipeline.ids import digest
from pipeline.places import PROJECT
from pipeline.rundir import RunDir
from pipeline.stage import STAGES
from pipeline.store import request_log
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]
pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]
EXAMPLE = PROJECT / "tests" / "examples" / "own_method"
README = PROJECT / "stages" / "methods" / "README.md"

# The session's Ray was started in the checkout, so its workers cannot import a module from anywhere else.
DRIVER = """
import asyncio, sys
import stages
from pipeline import cluster
from pipeline.config import load_recipe
from pipeline.rundir import RunDir
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze

async def through(run, recipe):
    freeze(run, recipe)
    async with Loop(run, recipe) as loop:
        for name in ("generate", "critique", "filter", "verify"):
            await loop.stage(1, name)
        await loop.publish(1)

cluster.connect()
run = RunDir("run")
asyncio.run(through(run, run.freeze(load_recipe("recipe.yaml", sys.argv[1:]))))
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> RunDir:
    """A round, up to its published dataset, of the example in a folder of its own.

    Ray is real, answers are scripted.
    """
    folder = tmp_path_factory.mktemp("elsewhere") / "own"
    shutil.copytree(EXAMPLE, folder)
    changes = (
        f"model.base={tiny_model}",
        "engine={kind: scripted, answers: tests.scripted_answers:sums}",
        "tasks.limit=30",
        "held_out.count=5",
        "demonstrations=null",
        "questions_per_round=25",
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *changes],
        cwd=folder,
        env={**env, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return RunDir(folder / "run")


def test_every_row_is_accounted_for_in_every_stage(own: RunDir) -> None:
    manifests = {name: own.manifest(own.stage(1, name)) for name in (*STAGES, "publish")}
    for manifest in manifests.values():
        manifest.check()
    assert manifests["generate"].rows_in == 25
    assert manifests["generate"].rows_out == manifests["critique"].rows_out == 50
    assert set(manifests["verify"].rows_dropped) == {"wrong_answer"}


def test_the_dataset_holds_verified_revisions_of_the_plain_question(own: RunDir) -> None:
    dataset = load_from_disk(own.dataset("sft", 1))["train"]
    verified = {row.payload["text"] for row in own.rows(own.stage(1, "verify"))}
    assert len(dataset) > 5
    for example in dataset:
        system, user = example["prompt"]
        assert system == {"role": "system", "content": 'End with "Answer: X".'}
        assert "Solution:" not in user["content"]
        [answer] = example["completion"]
        assert answer["content"] in verified


def test_requests_are_rendered_from_the_templates_beside_the_module(own: RunDir) -> None:
    for stage, step in (("generate", "revise/solve"), ("critique", "revise/again")):
        records = list(request_log.records(f"{own.stage(1, stage)}/requests"))
        assert records and {record["step"] for record in records} == {step}
    drafts = {row.payload["draft"] for row in own.rows(own.stage(1, "generate"))}
    asked = [record["messages"][-1]["content"] for record in records]
    assert {text.partition("Solution:\n")[2] for text in asked} == drafts


def test_templates_outside_the_checkout_are_in_the_fingerprint(own: RunDir) -> None:
    for stage, step in (("generate", "revise/solve"), ("critique", "revise/again")):
        text = (EXAMPLE / "prompts" / f"{step}.jinja").read_text()
        assert stored(own.stage(1, stage))["prompts"] == {step: digest(text)}


def test_the_readme_quotes_the_example() -> None:
    readme = README.read_text()
    for path in sorted(EXAMPLE.rglob("*.*")):
        if path.suffix in (".py", ".jinja", ".yaml"):
            assert path.read_text().strip() in readme, f"{path.relative_to(EXAMPLE)} differs from {README}"
