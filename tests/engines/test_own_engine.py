"""Own engines: a class in a user's module is configured, asked and named like a built-in one."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import OpenaiEngine, ScriptedEngine, VllmEngine, build_recipe, dump_recipe, load_recipe
from pipeline.engines.base import EngineStatus, Request
from pipeline.engines.pool import EngineHandle, EnginePool
from pipeline.errors import ConfigError, StaleError
from pipeline.models import ModelRef
from pipeline.rundir import RunDir
from pipeline.stage import STAGES
from pipeline.store import request_log
from stages.rounds.loop import Loop
from tests.conftest import tiny_recipe
from tests.own_engine import Echo, Served

ECHO, SERVED = "tests.own_engine:Echo", "tests.own_engine:Served"
MODEL = ModelRef("/models/tiny", "tiny", "0123456789abcdef")


def test_a_whole_round_is_made_with_it(tmp_path: Path, local_ray: Any) -> None:
    model, tasks = tmp_path / "model", tmp_path / "tasks.jsonl"
    tasks.write_text(
        "".join(json.dumps({"question": f"{i} + {4 - i}?", "answer": 4}) + "\n" for i in range(20))
    )
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).write_text("{}")
    run = RunDir(tmp_path / "run")
    recipe = run.freeze(
        tiny_recipe(
            engine={"kind": ECHO, "says": "I was asked", "shout": True},
            model={"base": str(model)},
            tasks={"source": "jsonl", "path": str(tasks)},
            held_out={"count": 5},
            method={"name": "direct", "samples": 2},
        )
    )
    assert run.recipe() == recipe

    async def stages() -> None:
        from stages.tasks.freeze import freeze

        freeze(run, recipe)
        async with Loop(run, recipe) as loop:
            assert not loop.generator(7).path, "an endpoint's rounds need no model"
            assert loop.evaluators is not loop.engines, "nor can it evaluate one"
            for name in STAGES:
                await loop.stage(1, name)

    asyncio.run(stages())
    rows = list(run.rows(run.stage(1, "verify")))
    assert len(rows) == 30 and all(row.payload["text"].startswith("I WAS ASKED: ") for row in rows)
    assert {row.payload["model"] for row in rows} == {ECHO}
    records = list(request_log.records(f"{run.stage(1, 'generate')}/requests"))
    assert len(records) == 15 and {r["model"] for r in records} == {ECHO}
    # The stage's settings: another greeting makes its rows stale, another time-out does not.
    assert run.freeze(build_recipe(changed(recipe, patience=9))).engine.patience == 9
    with pytest.raises(StaleError, match="engine.says: 'I was asked' -> 'other'"):
        run.freeze(build_recipe(changed(recipe, says="other")))


def changed(recipe: Any, **settings: Any) -> dict[str, Any]:
    data = yaml.safe_load(dump_recipe(recipe))
    return {**data, "engine": data["engine"] | settings}


async def test_replicas_of_one_s_own_are_started_restarted_and_ended(local_ray: Any) -> None:
    recipe = tiny_recipe(engine={"kind": SERVED, "replicas": 2, "greeting": "hi"})
    pool = EnginePool(recipe, recipe.engine)
    try:
        handle = await pool.use(MODEL)
        assert handle.model_name == "tiny@0123456789ab" and len(handle.replicas) == 2
        client = handle.connect()
        answers = await asyncio.gather(*(client.generate(Request(prompt="x", row=row)) for row in "aba"))
        assert [f"hi from tiny, replica {i}" for i in (0, 1, 0)] == [
            a.text.rpartition(",")[0] for [a] in answers
        ]
        [after] = await client.generate(Request(prompt="die once", row="a"))
        assert after.text == "hi from tiny, replica 0, request 1", "a new engine, in the same replica"
        status = await handle.queue()
        assert isinstance(status, EngineStatus) and status.looked_up >= 1
        other = ModelRef("/models/other", "other", "1")
        again = (await pool.use(other)).connect()
        assert "from other" in (await again.generate(Request(prompt="x", row="a")))[0].text
    finally:
        await pool.free()


@pytest.mark.parametrize("engine", [{"kind": ECHO, "says": "ü"}, {"kind": SERVED, "gpus": 0.5}])
def test_it_is_dumped_and_read_back(tmp_path: Path, engine: dict[str, Any]) -> None:
    recipe = tiny_recipe(engine=engine, evaluate={"engine": engine})
    path = tmp_path / "dump.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe and load_recipe(path).evaluate.engine == recipe.engine
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["engine"].keys() > engine.keys()
    assert type(recipe.engine) in (Echo.Config, Served.Config)


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (
            {"kind": "no_such_module:Engine"},
            "engine.kind: engine 'no_such_module:Engine' points at .*ModuleNotFound",
        ),
        ({"kind": "tests.own_engine:Missing"}, "cannot be imported: AttributeError"),
        ({"kind": "tests.breaks_on_import:Engine"}, "RuntimeError: broken"),
        ({"kind": "tests.own_engine:NotAnEngine"}, "expected a subclass of pipeline.engines.base.Engine"),
        ({"kind": "math:sqrt"}, "expected a subclass of pipeline.engines.base.Engine"),
        ({"kind": "tests.own_engine:WithoutSection"}, "Config is None; expected the class of its settings"),
        ({"kind": "tests.own_engine:Halfway"}, "does not define generate"),
        (
            {"kind": ECHO, "says": "x", "shoot": True},
            "engine.shoot: unknown key 'shoot'; did you mean 'shout'",
        ),
        (
            {"kind": ECHO, "says": "x", "volume": 3},
            "'volume'; known here: kind, patience, says, shout",
        ),
        ({"kind": ECHO}, "engine.says: is missing and has no default"),
        ({"kind": ECHO, "says": 3}, "engine.says: Input should be a valid string"),
        (
            {"kind": "scriptet"},
            "unknown engine 'scriptet'. Did you mean 'scripted'.*or your own as 'module:Name'",
        ),
    ],
)
def test_what_is_wrong_with_it_is_said(engine: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tiny_recipe(engine=engine)
    with pytest.raises(ConfigError, match=rf"evaluate\.{said}" if said.startswith("engine.") else said):
        tiny_recipe(evaluate={"engine": engine})


def test_it_can_annotate_for_self_if_it_needs_no_replicas() -> None:
    def annotator(engine: dict[str, Any]) -> Any:
        method = {"name": "self", "annotator": engine}
        recipe = tiny_recipe(method=method, new_questions=True, questions_per_round=5)
        from stages.methods.self.method import SelfEvolution

        return SelfEvolution(recipe).options

    options = annotator({"kind": ECHO, "says": "good", "patience": 3})
    assert options.annotator_identity() == {"kind": ECHO, "says": "good", "shout": False}
    with pytest.raises(ConfigError, match=r"method\.annotator: kind tests.own_engine:Served needs replicas"):
        annotator({"kind": SERVED})


@pytest.mark.parametrize(
    ("config", "name", "identity"),
    [
        (
            VllmEngine(replicas=3, args={"max_num_seqs": 3, "dtype": "float16"}),
            "tiny@0123456789ab",
            {"kind": "vllm", "args": {"dtype": "float16"}},
        ),
        (ScriptedEngine(kind="scripted"), "tiny@0123456789ab", {"kind": "scripted", "answers": "hash"}),
        (
            OpenaiEngine(kind="openai", base_url="http://h/v1", model="m", concurrency=3),
            "m@http://h/v1",
            {"kind": "openai", "base_url": "http://h/v1", "model": "m", "extra_body": {}},
        ),
        (Echo.Config(kind=ECHO, says="x"), ECHO, {"kind": ECHO, "says": "x", "shout": False}),
    ],
)
def test_what_goes_into_fingerprints(config: Any, name: str, identity: dict[str, Any]) -> None:
    """Rows that were made before must be found again under these names."""
    assert EngineHandle(config, MODEL).model_name == name
    assert config.identity() == identity


def test_the_built_in_engines_are_told_apart_by_what_they_can_do() -> None:
    sections = [
        VllmEngine(),
        ScriptedEngine(kind="scripted"),
        OpenaiEngine(kind="openai", base_url="x", model="m"),
    ]
    engines = [section.implementation for section in sections]
    assert [e.serves_trained_models for e in engines] == [True, False, False]
    assert [e.is_endpoint for e in engines] == [False, False, True]
    assert [e.replicated for e in engines] == [True, False, False]
    assert [e.Config for e in engines] == [type(section) for section in sections]
