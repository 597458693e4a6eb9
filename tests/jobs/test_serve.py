"""serve on a running Ray: a pool is started, listed, refused a second time, and ended.

The replicas are stand-ins without a model.
"""

import asyncio
import json
from pathlib import Path

import pytest

from pipeline.config import load_recipe
from pipeline.engines import pool, replica
from pipeline.engines.base import EngineStatus
from pipeline.errors import EngineDied


class StandIn:
    """Answers as replica.EngineReplica does."""

    def __init__(self, config, replica, log):
        self._model, self._fails = None, config.args.get("fails")

    async def load(self, model, trust_remote_code=False):
        if self._fails and model is not None:
            raise EngineDied("vLLM did not start: no memory")
        self._model = model

    async def status(self):
        return self._model, EngineStatus(3, 1)

    async def close(self):
        self._model = None


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch, local_ray):
    monkeypatch.setattr(replica, "EngineReplica", StandIn)
    monkeypatch.setattr(
        "pipeline.models.resolve_model",
        lambda base, revision: pool.ModelRef("/models/tiny", "tiny", "0123456789abcdef"),
    )
    path = tmp_path / "r.yaml"
    path.write_text("name: x\nengine: {kind: vllm, replicas: 2}\ntasks: {source: jsonl, path: x.jsonl}\n")
    return path


def test_a_pool_from_start_to_end(selfloop, recipe):
    here = ("--address", "this-ray")  # connected already
    started = selfloop("serve", recipe, "--name", "warm", *here)
    assert started.status == 0 and "--set runner.engine_pool=warm" in started.text
    listed = selfloop("serve", "--status", *here)
    assert (
        "warm/0: ready, tiny@0123456789ab, 3 running, 1 waiting" in listed.text
        and "warm/1: ready" in listed.text
    )
    facts = json.loads(selfloop("serve", "--status", "--json", *here).text)
    assert [(f["pool"], f["engine"], f["model"]) for f in facts] == [
        ("warm", 0, "tiny@0123456789ab"),
        ("warm", 1, "tiny@0123456789ab"),
    ]
    again = selfloop("serve", recipe, "--name", "warm", *here)
    assert again.status == 2 and "already" in again.text
    unknown = selfloop("serve", "--stop", "--name", "cold", *here)
    assert unknown.status == 2 and "There are: warm." in unknown.text
    assert "stopped 2 engines" in selfloop("serve", "--stop", "--name", "warm", *here).text
    assert "no engines are kept warm" in selfloop("serve", "--status", *here).text


def test_a_job_that_attaches_leaves_the_pool_warm(selfloop, recipe):
    here = ("--address", "this-ray")
    assert selfloop("serve", recipe, "--name", "warm", *here).status == 0
    settings, trained = (
        load_recipe(recipe, ["runner.engine_pool=warm"]),
        pool.ModelRef("/runs/x/models/round-001", "round-001", "fedcba9876543210"),
    )

    async def job(end: str) -> None:
        engines = pool.EnginePool(settings, settings.engine)
        assert len((await engines.use(trained)).replicas) == 2
        await getattr(engines, end)()

    asyncio.run(job("leave"))
    assert "warm/1: ready, round-001@fedcba987654" in selfloop("serve", "--status", *here).text
    asyncio.run(job("free"))  # for a training
    assert "warm/1: no model loaded" in selfloop("serve", "--status", *here).text
    assert "stopped 2 engines" in selfloop("serve", "--stop", "--name", "warm", *here).text


def test_engines_that_do_not_start_leave_nothing_behind(selfloop, recipe):
    found = selfloop(
        "serve", recipe, "--name", "broken", "--set", "engine.args={fails: true}", "--address", "this-ray"
    )
    assert found.status == 2 and "no memory" in found.text
    assert "no engines are kept warm" in selfloop("serve", "--status", "--address", "this-ray").text


@pytest.mark.parametrize("engine", ["{kind: scripted}", "{kind: 'tests.own_engine:Echo', says: x}"])
def test_an_engine_without_replicas_cannot_be_kept_warm(selfloop, recipe, engine: str):
    refused = selfloop(
        "serve", recipe, "--name", "warm", "--set", f"engine={engine}", "--address", "this-ray"
    )
    assert refused.status == 2 and "starts no engines of its own" in refused.text
