"""A judge with an engine of its own: an endpoint, asked in the middle of a run whose model is another one."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.errors import ConfigError
from pipeline.rundir import RunDir
from pipeline.store import request_log
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.stages.judges.asked import score
from tests.stages.judges.test_judged_loop import open_recipe
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]


@pytest.fixture
def judge() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An endpoint that gives every answer an 8, and what it was sent."""
    seen: list[dict[str, Any]] = []
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), [0]

    async def answer(request: web.Request) -> web.Response:
        seen.append({"key": request.headers.get("Authorization"), **await request.json()})
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": score(8)}}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 5}})

    async def start() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port[0] = site._server.sockets[0].getsockname()[1]
        ready.set()

    def serve() -> None:
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    ready.wait(30)
    yield f"http://127.0.0.1:{port[0]}/v1", seen
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)


def test_an_endpoint_judges_with_its_own_model_and_a_key_from_the_environment(
    in_process: None, tiny_model: Path, tmp_path: Path, judge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = judge
    engine = {"kind": "openai", "base_url": url, "model": "big", "api_key_env": "JUDGE_KEY"}
    recipe = open_recipe(
        tmp_path, model={"base": str(tiny_model)}, verifier={"kind": "judge", "engine": engine}
    )
    run = RunDir(tmp_path / "run")

    async def stages() -> None:
        freeze(run, run.freeze(recipe))
        async with Loop(run, recipe) as loop:
            with pytest.raises(ConfigError, match="verifier judge: .*JUDGE_KEY is not set"):
                await loop.iterate(1)
            monkeypatch.setenv("JUDGE_KEY", "sk-secret")
            for name in ("generate", "critique", "filter", "verify"):
                await loop.stage(1, name)

    asyncio.run(stages())
    verify = run.manifest(run.stage(1, "verify"))
    assert verify.model == f"big@{url}" and verify.requests.sent == len(seen) == 66
    assert {body["key"] for body in seen} == {"Bearer sk-secret"} and {body["model"] for body in seen} == {
        "big"
    }
    assert all(body["response_format"]["json_schema"]["strict"] for body in seen)
    [record, *_] = request_log.records(f"{run.stage(1, 'verify')}/requests")
    assert record["model"] == verify.model
    stored = "".join(
        p.read_text() for p in Path(run.root).rglob("*") if p.suffix in (".json", ".jsonl", ".yaml")
    )
    assert "sk-secret" not in stored
