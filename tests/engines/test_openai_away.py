"""An endpoint that goes away while a stage asks it: it is waited for, and that is said."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError, EngineError, StageError
from pipeline.rundir import RunDir
from pipeline.store import request_log
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.engines.ask_openai import chat, client_of
from tests.engines.server import Fault, LocalServer, Seen
from tests.in_process import stages_in_process


@pytest.fixture(scope="module")
def in_workers() -> Iterator[None]:
    """Stage workers in this process, without what trains, which takes long to import."""
    with stages_in_process():
        yield


async def test_one_that_has_answered_is_waited_for() -> None:
    async with LocalServer() as server:
        url, port = server.url, server.port
        waiting = client_of(url, max_retries=1, backoff=0.05)
        client = await waiting.__aenter__()
        await client.generate(chat())
    asked = asyncio.create_task(client.generate(chat("And now?")))
    await asyncio.sleep(0.5)
    assert not asked.done() and client.retries > 1, "beyond max_retries"
    assert f"cannot connect to {url}" in client.trouble() and "; trying again until " in client.trouble()
    async with LocalServer(port=port):
        assert await asked and not client.trouble()
        await waiting.__aexit__(None, None, None)


@pytest.mark.parametrize("patience", [0.0, 0.3])
async def test_not_for_ever(patience: float) -> None:
    async with LocalServer() as server:
        waiting = client_of(server.url, max_retries=1, backoff=0.02, outage_seconds=patience)
        client = await waiting.__aenter__()
        await client.generate(chat())
    with pytest.raises(EngineError, match="cannot connect.*gave up after") as e:
        await asyncio.wait_for(client.generate(chat()), 30)
    assert e.value.retryable and not client.trouble()
    await waiting.__aexit__(None, None, None)


async def test_one_that_never_answered_is_not_waited_for() -> None:
    async with LocalServer() as server:
        url = server.url
    async with client_of(url, max_retries=2) as client:
        with pytest.raises(EngineError, match="gave up after 3 attempts"):
            await asyncio.wait_for(client.generate(chat()), 30)


async def test_a_request_that_alone_meets_503_has_its_retries(server: LocalServer) -> None:
    server.plan = lambda seen: Fault(503) if "bad" in seen.body["messages"][0]["content"] else None
    async with client_of(server.url, max_retries=3, backoff=0.1) as client:

        async def others() -> None:
            while True:
                await client.generate(chat())

        answered = asyncio.create_task(others())
        with pytest.raises(EngineError, match="answered 503.*gave up after"):
            await asyncio.wait_for(client.generate(chat("bad")), 30)
        answered.cancel()


def endpoint_run(folder: Path, url: str, rows: int = 30, **settings: Any) -> tuple[RunDir, Loop]:
    tasks = folder / "tasks.jsonl"
    lines = (json.dumps({"question": f"What is {i} + {i}?", "answer": 2 * i}) for i in range(rows + 1))
    tasks.write_text("\n".join(lines))
    run = RunDir(folder / "run")
    recipe = tiny_recipe(
        engine={"kind": "openai", "base_url": url, "model": "far", **settings},
        model={"base": "nobody/has-this-model"},
        tasks={"source": "jsonl", "path": str(tasks)},
        held_out={"count": 1},
        method={"name": "direct", "samples": 1},
        runner={"in_flight": 4},
    )
    recipe = run.freeze(recipe)
    freeze(run, recipe)
    return run, Loop(run, recipe)


async def test_a_stage_waits_says_so_and_loses_nothing(
    tmp_path: Path, in_workers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    left = asyncio.Event()

    def leaves_after_ten(seen: Seen) -> Fault | None:
        if seen.number == 10:
            left.set()
        return Fault(reset=True) if seen.number >= 10 else None

    async with LocalServer(plan=leaves_after_ten) as server:
        run, loop = endpoint_run(tmp_path, server.url, max_retries=1, backoff=0.2)
        stage = asyncio.create_task(loop.stage(1, "generate"))
        await left.wait()
    await asyncio.sleep(1.5)
    assert not stage.done()
    async with LocalServer(port=server.port) as again:
        manifest = await stage
    said = capsys.readouterr().err
    assert f"cannot connect to {server.url}" in said and "answered again, after " in said
    assert said.count("trying again until") == 1
    assert manifest.rows_done == manifest.requests.sent == 30 and again.requests == 20
    records = list(request_log.records(f"{run.stage(1, 'generate')}/requests"))
    assert len({r["key"] for r in records}) == len(records) == 30


async def test_an_outage_that_lasts_stops_the_stage_which_resumes_where_it_was(
    tmp_path: Path, in_workers: None
) -> None:
    async with LocalServer(plan=lambda seen: Fault(502) if seen.number >= 10 else None) as server:
        settings = {"max_retries": 0, "backoff": 0.05, "outage_seconds": 0.3}
        _, loop = endpoint_run(tmp_path, server.url, **settings)
        with pytest.raises(StageError, match="were not answered in 2 passes"):
            await loop.stage(1, "generate")
        server.plan, before = None, server.requests
        manifest = await loop.stage(1, "generate")
    assert manifest.rows_done == 30 and server.requests - before == 20, "what was answered is not asked again"


async def test_no_model_is_looked_up_before_a_job_trains_or_evaluates_one(
    tmp_path: Path, in_workers: None
) -> None:
    async with LocalServer() as server:
        _, loop = endpoint_run(tmp_path, server.url, rows=5)
        for name in ("generate", "critique", "filter", "verify"):
            await loop.stage(1, name)
        asked = server.requests
        for work in (loop.publish(1), loop.evaluate("base"), loop.iterate(1)):
            with pytest.raises(ConfigError, match=r"model\.base: 'nobody/has-this-model' is neither"):
                await work
        assert server.requests == asked, "before the first request of a loop"
