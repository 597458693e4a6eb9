"""Whatever a row depends on is in the fingerprint, and named when it differs."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline import fingerprint, prompts
from pipeline.errors import StaleError
from pipeline.methods import Stage
from pipeline.rundir import RunDir
from tests.conftest import tiny_recipe

STAGE = Stage(prompts=("direct/solve",), config={"samples": 4, "pair": (1, 2), 3: "x"})
GIVEN: dict[str, Any] = {"sampling": {"stop": ["a"]}, "model": "m@1", "inputs": "abc", "seed": 0}


def check(run: RunDir, stage: Stage = STAGE, **changes: Any) -> str:
    given = {**GIVEN, **changes}
    recipe = tiny_recipe(**{k: v for k, v in given.items() if k in ("sampling", "seed", "prompts")})
    parts = fingerprint.components(stage, recipe, model=given["model"], inputs=given["inputs"])
    return fingerprint.check(run.stage(1, "generate"), parts)


def test_the_same_again_is_fine(run: RunDir) -> None:
    """Tuples and numbers as keys are other things in JSON; that is no difference."""
    assert check(run) == check(run)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stage": replace(STAGE, version=2)}, "code version: 1 -> 2"),
        ({"stage": replace(STAGE, config={**STAGE.config, "samples": 5})}, "config.samples: 4 -> 5"),
        ({"stage": replace(STAGE, prompts=())}, "prompts.direct/solve: "),
        ({"sampling": {"stop": ["a"], "temperature": 0.5}}, "sampling.temperature: 1.0 -> 0.5"),
        ({"model": "m@2"}, "model: 'm@1' -> 'm@2'"),
        ({"inputs": "abd"}, "input: 'abc' -> 'abd'"),
        ({"seed": 1}, "seed: 0 -> 1"),
    ],
)
def test_a_difference_is_named(run: RunDir, changes: dict[str, Any], said: str) -> None:
    check(run)
    with pytest.raises(StaleError) as e:
        check(run, **changes)
    assert said in str(e.value) and run.stage(1, "generate") in str(e.value)
    check(run)  # and the stored one is as it was


def test_a_changed_prompt_is_named(run: RunDir) -> None:
    check(run)
    text = prompts.SHIPPED.source("direct/solve")
    check(run, prompts={"direct/solve": text})
    with pytest.raises(StaleError, match="prompts.direct/solve: "):
        check(run, prompts={"direct/solve": text + " "})


def test_a_stage_without_prompts_does_not_depend_on_the_model(run: RunDir) -> None:
    stage = replace(STAGE, prompts=())
    check(run, stage)
    check(run, stage, model="other", sampling={"temperature": 0})
