"""How long an episode of evaluation may be, and what a reflection costs in it."""

import asyncio
from typing import Any

import pytest
import yaml

from pipeline.config import dump_recipe, load_recipe
from pipeline.engines.base import Completion, Request
from pipeline.errors import ConfigError, StaleError
from pipeline.rows import Row
from pipeline.rundir import RunDir
from pipeline.store import files
from stages.methods.agent_r.method import AgentR
from stages.methods.agent_r.options import FREE_REFLECTIONS
from tests.conftest import tiny_recipe
from tests.stages.methods.agent_r.scripted import METHOD, TASKS, method, task_rows
from tests.stages.methods.agent_r.search.player import completion, llm


def plays(*moves: str) -> Any:
    """A model that makes these moves, the last one again and again."""

    async def send(request: Request) -> list[Completion]:
        turn = sum(m["role"] == "assistant" for m in request.messages)
        return [completion(f"Action: {moves[min(turn, len(moves) - 1)]}")]

    return send


def greedy(m: AgentR, *moves: str, target: int = 4) -> dict[str, Any]:
    row: Row = task_rows(m)[1][target]  # its target is 7
    return asyncio.run(m.evaluation(None).row(row, llm(plays(*moves), row.id))).rows[0].payload["greedy"]


@pytest.mark.parametrize(
    ("given", "depth", "steps"), [(None, 6, 12), (None, 3, 6), (4, 6, 4), ("depth", 6, 6), (100, 6, 100)]
)
def test_an_episode_has_twice_the_depth_of_the_search_unless_told(given: Any, depth: int, steps: int) -> None:
    m = method(evaluate_steps=given, depth=depth)
    played = greedy(m, "fly")
    assert len(played["actions"]) == steps and played["end"] == "steps"


def test_a_reflection_uses_no_step() -> None:
    m = method(evaluate_steps=7)
    played = greedy(m, "reflect", "add 1", "reflect", *["add 1"] * 6)
    assert played["correct"] and played["reflections"] == 2 and len(played["actions"]) == 9
    row = Row("r", {"greedy": played})
    measures = m.measures([row])
    assert measures["steps"] == [7.0] and measures["executed"] == [1.0] and measures["reflections"] == [2.0]
    old = method(evaluate_steps="depth", depth=7)
    counted = greedy(old, "reflect", "add 1", "reflect", *["add 1"] * 6)
    assert not counted["correct"] and counted["reflections"] == 0 and len(counted["actions"]) == 7
    assert old.measures([Row("r", {"greedy": counted})])["steps"] == [7.0]
    assert "reflections" not in old.measures([Row("r", {"greedy": counted})])


def test_a_model_that_only_reflects_comes_to_an_end() -> None:
    played = greedy(method(evaluate_steps=6), "reflect")
    assert played["end"] == "steps" and len(played["actions"]) == 6 + FREE_REFLECTIONS


def test_an_episode_of_an_older_version_is_measured_as_it_was() -> None:
    stored = {"actions": ["reflect", "add 1"], "executed": 2, "score": 0.0, "loops": [0] * 6}
    measures = method().measures([Row("r", {"greedy": stored})])
    assert measures["steps"] == [2.0] and measures["executed"] == [1.0]


def test_a_resumed_episode_has_as_many_steps_after_its_beginning() -> None:
    m = method(evaluate_steps=5)
    row = task_rows(m)[1][4]
    failed = Row(row.id, {**row.payload, "greedy": {"actions": ["add 1", "reflect", "fly", "fly"]}})
    kept = asyncio.run(m.resumption().row(failed, llm(plays("x", "x", "reflect", "add 1"), row.id)))
    resumed = kept.rows[0].payload["resumed"]
    assert resumed["actions"] == ["reflect"] + ["add 1"] * 5 and resumed["reflections"] == 1
    assert not resumed["correct"], "the target is 7"


def test_the_plan_has_room_for_steps_and_reflections() -> None:
    m = method(evaluate_steps=30)
    for stage in ("evaluate", "resume"):
        assert m.work(stage, 1).asks[0].most == 30 + FREE_REFLECTIONS
    assert method(evaluate_steps="depth").work("resume", 1).asks[0].most == METHOD["depth"]


@pytest.mark.parametrize("given", [0, -1, "deep"])
def test_a_number_of_steps_that_cannot_be_is_refused(given: Any) -> None:
    with pytest.raises((ConfigError, ValueError), match="evaluate_steps"):
        method(evaluate_steps=given)


def test_a_run_of_an_older_version_goes_on_as_it_began(run: RunDir) -> None:
    """Its run.yaml has no evaluate_steps: its evaluations keep their fingerprint, and a start with the new
    default is refused, not mixed in.
    """
    now = tiny_recipe(tasks=TASKS, method=METHOD)
    data = yaml.safe_load(dump_recipe(now))
    del data["method"]["evaluate_steps"]
    files.write_bytes(run.path("run.yaml"), yaml.safe_dump(data, sort_keys=False).encode())
    files.write_json(run.path("rounds", "000", "evaluate", "fingerprint.json"), {})
    old = AgentR(run.recipe())
    stage = old.evaluation(None)
    assert (stage.version, stage.config) == (
        3,
        {"depth": 6, "environment": TASKS["dataset"], "environment_version": 1},
    )
    assert old.options.fingerprint() == AgentR(now).options.fingerprint(), "nothing else is redone"
    assert run.freeze(load_recipe(run.path("run.yaml"))).method["evaluate_steps"] == "depth"
    with pytest.raises(StaleError, match=r"method.evaluate_steps: 'depth' -> None"):
        run.freeze(now)
    new = AgentR(now).evaluation(None)
    assert new.version > 3 and new.config["steps"] == 12
