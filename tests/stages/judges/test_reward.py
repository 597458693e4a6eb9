"""The reward model: from a model's outputs to a score, and a run whose verify asks one in an actor."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.rundir import RunDir
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.engines.test_scores import classifier
from tests.stages.judges.asked import Judged, answer, recipe_with
from tests.stages.judges.test_judged_loop import open_recipe
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]
ENDPOINT = {"kind": "reward_model", "engine": {"kind": "scores", "base_url": "http://host/", "model": "rm"}}


def judged(outputs: Any, **settings: Any) -> Judged:
    recipe = recipe_with({**ENDPOINT, "threshold": 0.5, **settings})
    return Judged(recipe, [answer("q", "text")], lambda _: json.dumps(outputs))


@pytest.mark.parametrize(
    ("outputs", "settings", "score"),
    [
        ([0.7], {}, 0.7),
        ([3.0], {"sigmoid": True}, 1 / (1 + math.exp(-3))),
        ([-5000.0], {"sigmoid": True, "threshold": None}, 0.0),
        ([0.0, 2.0], {}, 1 / (1 + math.exp(-2))),
        ([2.0, 0.0], {"label": 0}, 1 / (1 + math.exp(-2))),
    ],
)
def test_scores(outputs: list[float], settings: dict[str, Any], score: float) -> None:
    verdict = judged(outputs, **settings).kept["q-0"].payload["verdict"]
    assert verdict["score"] == pytest.approx(score, abs=1e-12) and verdict["correct"]


def test_below_the_threshold_and_no_number() -> None:
    below = judged([0.2])
    assert (
        below.reasons == {"q-0": "low_score"} and below.dropped["q-0"][0].detail == "score 0.2, threshold 0.5"
    )
    assert judged([None]).reasons == {"q-0": "unreadable_judgement"}
    [request] = below.requests
    assert [m["role"] for m in request.messages] == ["user", "assistant"]
    assert request.messages[0]["content"] == "What is q?" and request.messages[1]["content"] == "text"


@pytest.mark.timeout(300)
def test_verify_asks_a_model_in_an_actor(
    local_ray: Any, in_process: None, tiny_model: Path, tmp_path: Path
) -> None:
    model = classifier(tiny_model, tmp_path / "rm", 1)
    verifier = {"kind": "reward_model", "model": str(model), "top_share": 0.34}
    recipe = open_recipe(tmp_path, model={"base": str(tiny_model)}, verifier=verifier)
    run = RunDir(tmp_path / "run")

    async def stages() -> None:
        freeze(run, run.freeze(recipe))
        async with Loop(run, recipe) as loop:
            for name in ("generate", "critique", "filter", "verify"):
                await loop.stage(1, name)

    asyncio.run(stages())
    manifest = run.manifest(run.stage(1, "verify"))
    assert manifest.model.startswith("rm@") and manifest.requests.sent == manifest.rows_in == 66
    kept = list(run.rows(run.stage(1, "verify")))
    assert len(kept) == 2 * 22, "two of three answers to each question: a third, rounded up"
    assert len({row.payload["verdict"]["score"] for row in kept}) > 22
    assert manifest.extra["verifiers"]["reward_model"]["length"] is not None
