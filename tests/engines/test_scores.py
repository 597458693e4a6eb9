"""Engines that score: an endpoint in each of its protocols, and a sequence-classification model."""

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.config import ClassifierEngine, ScoresEngine
from pipeline.engines.base import Request
from pipeline.engines.classifier import Classifier
from pipeline.engines.scores import ScoresClient
from pipeline.errors import ConfigError, EngineError
from pipeline.models import ModelRef
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]
CHAT = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]


def ask(
    api: str, reply: Callable[[dict[str, Any]], Any], path: str = ""
) -> tuple[str, list[tuple[str, Any]]]:
    """Ask an endpoint once; return the completion's text, and what the endpoint got."""
    seen: list[tuple[str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, await request.json()))
        return web.json_response(reply(seen[-1][1]))

    async def run() -> str:
        app = web.Application()
        app.router.add_post("/{tail:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        config = ScoresEngine(
            kind="scores", base_url=f"http://127.0.0.1:{port}{path}", model="rm", api=api, max_retries=0
        )
        client = ScoresClient(config)
        try:
            await client.start()
            return (await client.generate(Request(CHAT)))[0].text
        finally:
            await client.close()
            await runner.cleanup()

    return asyncio.run(run()), seen


def test_its_own_protocol() -> None:
    text, [(path, body)] = ask("json", lambda _: {"score": 0.25}, "/grade")
    assert json.loads(text) == [0.25] and path == "/grade" and body == {"model": "rm", "messages": CHAT}
    assert json.loads(ask("json", lambda _: {"scores": [1, -2]})[0]) == [1.0, -2.0]


def test_vllm_s_two() -> None:
    text, [(path, body)] = ask("classify", lambda _: {"data": [{"index": 0, "probs": [0.1, 0.9]}]})
    assert json.loads(text) == [0.1, 0.9] and path == "/classify" and body["messages"] == CHAT
    assert body["use_activation"] is False and body["add_generation_prompt"] is False
    text, [(path, body)] = ask("score", lambda _: {"data": [{"index": 0, "score": 3}]})
    assert json.loads(text) == [3.0] and path == "/score"
    assert (body["queries"], body["documents"]) == ("Why?", "Because.")


@pytest.mark.parametrize("reply", [{"score": "10"}, {"score": True}, {"scores": []}, {}, [], {"score": None}])
def test_a_reply_without_numbers_is_an_error(reply: Any) -> None:
    with pytest.raises(EngineError, match="malformed reply"):
        ask("json", lambda _: reply)


def classifier(base: Path, folder: Path, labels: int) -> Path:
    """Save a tiny sequence-classification model with the tokenizer of `base`."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(labels)
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = LlamaConfig.from_pretrained(base, num_labels=labels, pad_token_id=tokenizer.eos_token_id)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def scores(folder: Path, texts: list[str], **settings: Any) -> list[list[float]]:
    async def run() -> list[list[float]]:
        engine = Classifier(ClassifierEngine(**settings), ModelRef(str(folder), "rm", "1"))
        await engine.start()
        try:
            asked = (Request([CHAT[0], {"role": "assistant", "content": text}]) for text in texts)
            found = await asyncio.gather(
                *(engine.generate(request) for request in asked), return_exceptions=True
            )
            return [f if isinstance(f, Exception) else json.loads(f[0].text) for f in found]
        finally:
            await engine.close()

    return asyncio.run(run())


def test_a_batch_scores_as_each_answer_alone(tiny_model: Path, tmp_path: Path) -> None:
    folder = classifier(tiny_model, tmp_path / "rm", 1)
    texts = ["Because.", "It is so, for reasons that are many and long.", "No."]
    alone = [scores(folder, [text])[0] for text in texts]
    together = scores(folder, texts, batch_size=3)
    assert all(len(s) == 1 and math.isfinite(s[0]) for s in together) and len({s[0] for s in together}) == 3
    assert [s[0] for s in together] == pytest.approx([s[0] for s in alone], abs=1e-4)
    assert [s[0] for s in scores(folder, texts, batch_size=2)] == pytest.approx(
        [s[0] for s in alone], abs=1e-4
    )


def test_one_that_is_too_long_fails_alone(tiny_model: Path, tmp_path: Path) -> None:
    folder = classifier(tiny_model, tmp_path / "rm", 2)
    first, second = scores(folder, ["short", "long " * 200], max_length=100)
    assert len(first) == 2 and isinstance(second, EngineError) and "max_length is 100" in str(second)


def test_a_model_without_a_head_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="no sequence-classification model: its head"):
        scores(tiny_model, ["text"])
