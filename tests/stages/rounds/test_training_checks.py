"""What a run says about its trainings before anything is generated for them."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.rundir import RunDir
from stages.methods.direct.method import Direct
from stages.rounds import training
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.stages.rounds.test_loop import recipe_in
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]


def test_what_training_would_refuse_is_refused_before_anything_is_generated(
    tmp_path: Path,
) -> None:
    """Also where the recipe is the run's own: only a recipe that is given is checked as it is read."""
    run = RunDir(tmp_path / "run")
    bad = {"max_steps": 1, "extra": {"fsdp": "full_shard"}}
    loop = Loop(run, run.freeze(recipe_in(tmp_path, tmp_path, train=bad)))
    loop.recipe = run.recipe()
    freeze(run, loop.recipe)
    for work in (loop.iterate(1), loop.stage(1, "generate"), loop.train(0)):
        with pytest.raises(ConfigError, match=r"train\.extra\.fsdp: is not set here"):
            asyncio.run(work)
    assert not Path(run.root, "rounds").exists()


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({}, "sft 1e-05 (the default for all weights)"),
        (
            {"lora": {}, "kind": "sft_then_dpo"},
            "sft 0.0001 (the default with LoRA); dpo 5e-06 (the default with LoRA)",
        ),
        (
            {"kind": "dpo", "learning_rate": 0.1},
            "sft 0.1 (train.learning_rate); dpo 5e-07 (the default for all weights)",
        ),
    ],
)
def test_the_learning_rates_are_said(tmp_path: Path, train: dict[str, Any], said: str) -> None:
    recipe = recipe_in(tmp_path, tmp_path, train=train)
    assert training.rates(recipe, Direct(recipe)) == f"learning rate: {said}"


def test_the_memory_of_a_training_is_said(tmp_path: Path, tiny_model: Path) -> None:
    recipe = recipe_in(tmp_path, tmp_path, train={"workers": 2, "shard": "full", "batch_size": 4})
    said = training.memory(recipe, str(tiny_model))
    assert re.match(
        r"memory of the training: about \d\.\d GiB of \d+\.\d \(0\.0 weights \+ 0\.0 gradients", said
    )
    assert "whole layers" in said and said.endswith(" in each of 2 processes)")
