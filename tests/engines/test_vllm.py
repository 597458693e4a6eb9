"""Real vLLM on this machine, as a run uses it: through a pool, with a router in front of the engine."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio
from safetensors.torch import load_file, save_file

from pipeline.config import Recipe, VllmEngine
from pipeline.engines.base import SCORED, Completion, Engine, Request, Sampling
from pipeline.engines.pool import EnginePool
from pipeline.engines.vllm import VllmClient
from pipeline.errors import ConfigError, EngineError
from pipeline.models import PACKAGED, ModelRef, resolve_model
from tests.engines.conftest import engine_processes

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]

GREEDY = Sampling(temperature=0, max_tokens=24)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(warm_recipe: Recipe) -> AsyncIterator[EnginePool]:
    pool = EnginePool(warm_recipe, warm_recipe.engine)
    yield pool
    await pool.leave()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(pool: EnginePool) -> Engine:
    return (await pool.use(resolve_model(PACKAGED))).connect()


def chat(text: str, **fields: Any) -> Request:
    return Request(
        messages=[{"role": "user", "content": text}], **{"sampling": GREEDY, "row": text, **fields}
    )


async def test_greedy_answer_repeats_and_is_counted(engine: Engine) -> None:
    first, second = [(await engine.generate(chat("What is the capital of France?")))[0] for _ in range(2)]
    assert first == second
    assert first.text and first.prompt_tokens > 10 and 0 < first.completion_tokens <= 24
    assert first.finish_reason == ("length" if first.completion_tokens == 24 else "stop")


async def test_prompt_is_the_chat_template_alone(
    engine: Engine,
) -> None:
    """No second BOS, which a template rendered to text and then tokenized would get (ReGenesis, fault 16)."""
    from transformers import AutoTokenizer

    request = chat("What is the capital of France?")
    [answer] = await engine.generate(request)
    ids = AutoTokenizer.from_pretrained(resolve_model(PACKAGED).path).apply_chat_template(
        request.messages, add_generation_prompt=True, return_dict=False
    )
    assert answer.prompt_tokens == len(ids)


async def test_prefix_cache_hits_counted(pool: EnginePool, engine: Engine) -> None:
    handle = await pool.use(resolve_model(PACKAGED))
    before = await handle.queue()
    for _ in range(2):
        prompt_tokens = (await engine.generate(chat("word " * 100, sampling=Sampling(max_tokens=2))))[
            0
        ].prompt_tokens
    after = await handle.queue()
    assert after.looked_up - before.looked_up == 2 * prompt_tokens > 200
    assert 64 <= after.found - before.found < prompt_tokens + 32, (
        "all whole blocks of the second prompt, of the first one the system message at most"
    )


async def test_samples_differ_and_truncation_is_reported(engine: Engine) -> None:
    samples = await engine.generate(
        chat("Tell me a story.", n=4, sampling=Sampling(temperature=1.0, max_tokens=12))
    )
    assert len({s.text for s in samples}) == 4
    assert {s.finish_reason for s in samples} == {"length"} and {s.completion_tokens for s in samples} == {12}


async def test_prefilled_answer_continued(engine: Engine) -> None:
    (completion,) = await engine.generate(chat("Count to five.", prefill="1, 2, 3,"))
    assert completion.text.lstrip().startswith("4")


async def test_raw_prompt_logprobs_stop_and_seed(engine: Engine) -> None:
    sampling = Sampling(temperature=0, max_tokens=8, logprobs=0, stop=("\n",), seed=3)
    (completion,) = await engine.generate(
        Request(prompt="The capital of Italy is", sampling=sampling, row="r")
    )
    assert isinstance(completion, Completion) and "\n" not in completion.text
    assert len(completion.logprobs) == completion.completion_tokens and all(
        p <= 0 for p in completion.logprobs
    )


async def test_guided_decoding(engine: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    }
    (completion,) = await engine.generate(
        chat("A city, as JSON.", json_schema=schema, sampling=Sampling(temperature=0, max_tokens=64))
    )
    assert isinstance(json.loads(completion.text)["city"], str)


async def test_too_long_prompt_fails_alone(engine: Engine) -> None:
    too_long, fine = await asyncio.gather(
        engine.generate(chat("word " * 2000)), engine.generate(chat("Say hello.")), return_exceptions=True
    )
    assert isinstance(too_long, EngineError) and not too_long.retryable
    assert fine[0].text


async def test_other_weights_served_without_restart(pool: EnginePool, tmp_path: Path) -> None:
    base, processes = resolve_model(PACKAGED), {p.pid for p in engine_processes()}
    other = shutil.copytree(base.path, tmp_path / "other")
    (other / ".revision.json").unlink()
    weights = load_file(other / "model.safetensors")
    save_file(
        {name: -tensor if "down_proj" in name else tensor for name, tensor in weights.items()},
        other / "model.safetensors",
        {"format": "pt"},
    )

    async def answer(model: ModelRef) -> str:
        return (await (await pool.use(model)).connect().generate(chat("What is the capital of France?")))[
            0
        ].text

    first, changed, again = [await answer(model) for model in (base, resolve_model(str(other)), base)]
    assert first == again != changed, "an answer from the prefix cache would be the old weights'"
    assert {p.pid for p in engine_processes()} == processes


async def test_requests_survive_engine_kill(engine: Engine) -> None:
    before = {p.pid for p in engine_processes()}
    assert before
    asked = [
        asyncio.create_task(
            engine.generate(chat(f"Write about the number {i}.", sampling=Sampling(max_tokens=120)))
        )
        for i in range(8)
    ]
    await asyncio.sleep(1)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    answers = await asyncio.gather(*asked)
    assert all(a[0].completion_tokens > 0 for a in answers)
    end = time.monotonic() + 10
    while before & {p.pid for p in engine_processes()} and time.monotonic() < end:
        await asyncio.sleep(0.2)
    assert not before & {p.pid for p in engine_processes()}


async def test_unknown_arguments_named() -> None:
    """In this process, which has imported vLLM for the test below."""
    client = VllmClient(VllmEngine(args={"max_model_length": 512}), resolve_model(PACKAGED))
    with patch.dict(os.environ):
        with pytest.raises(ConfigError, match="max_model_length"):
            await client.start()
        await client.close()


async def test_logprobs_of_given_text(engine: Engine) -> None:
    async def score(prompt: str, text: str) -> list[float]:
        return (
            await engine.generate(
                Request(
                    prompt=prompt,
                    prefill=text,
                    sampling=Sampling(temperature=0, max_tokens=1, extra=SCORED),
                    row="score",
                )
            )
        )[0].prefill_logprobs

    prompt = "The capital of France is"
    right, wrong = await score(prompt, " Paris"), await score(prompt, " cheese")
    assert max(right) < 0 and sum(right) / len(right) > sum(wrong) / len(wrong)
    whole = await score("", f"{prompt} Paris")
    assert len(whole) > len(right) and whole[-len(right) :] == pytest.approx(right, abs=0.1)
    assert (await engine.generate(chat("Hello")))[0].prefill_logprobs is None


async def test_changeable_arguments_are_vllms() -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    keys = VllmEngine.may_change
    changeable = [key.removeprefix("args.") for key in keys if key.startswith("args.")]
    assert changeable and all(name in AsyncEngineArgs.__dataclass_fields__ for name in changeable)
