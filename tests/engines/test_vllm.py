"""Real vLLM on this machine: one engine for the whole file, started the way a run starts it."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from safetensors.torch import load_file, save_file

from pipeline.config import VllmEngine
from pipeline.engines.base import SCORED, Completion, Engine, Request, Sampling
from pipeline.engines.pool import EnginePool
from pipeline.engines.reaper import MARK
from pipeline.errors import ConfigError, EngineError
from pipeline.models import PACKAGED, ModelRef, resolve_model
from tests.conftest import tiny_recipe

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

ENGINE = {"kind": "vllm", "args": {"max_model_len": 512, "max_num_seqs": 16}}
GREEDY = Sampling(temperature=0, max_tokens=24)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(local_ray: Any) -> AsyncIterator[EnginePool]:
    pool = EnginePool(tiny_recipe(engine=ENGINE), VllmEngine(**ENGINE))
    yield pool
    await pool.free()
    assert not engine_processes(), "processes of the engine are left after it was closed"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(pool: EnginePool) -> Engine:
    return (await pool.use(resolve_model(PACKAGED))).connect()


def engine_processes() -> list[psutil.Process]:
    """The processes that vLLM started under an engine's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if MARK in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def chat(text: str, **fields: Any) -> Request:
    return Request(
        messages=[{"role": "user", "content": text}], **{"sampling": GREEDY, "row": text, **fields}
    )


async def test_a_greedy_answer_is_the_same_twice_and_is_counted(engine: Engine) -> None:
    first, second = [(await engine.generate(chat("What is the capital of France?")))[0] for _ in range(2)]
    assert first == second
    assert first.text and first.prompt_tokens > 10 and 0 < first.completion_tokens <= 24
    assert first.finish_reason == ("length" if first.completion_tokens == 24 else "stop")


async def test_regenesis_fault_16_the_prompt_is_what_the_chat_template_gives_and_nothing_before_it(
    engine: Engine,
) -> None:
    """No second BOS: a template that was rendered to text and then tokenised would get one."""
    from transformers import AutoTokenizer

    request = chat("What is the capital of France?")
    [answer] = await engine.generate(request)
    ids = AutoTokenizer.from_pretrained(resolve_model(PACKAGED).path).apply_chat_template(
        request.messages, add_generation_prompt=True, return_dict=False
    )
    assert answer.prompt_tokens == len(ids)


async def test_what_the_prefix_cache_finds_is_counted(pool: EnginePool, engine: Engine) -> None:
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


async def test_n_samples_in_one_request_differ_and_truncation_is_told(engine: Engine) -> None:
    samples = await engine.generate(
        chat("Tell me a story.", n=4, sampling=Sampling(temperature=1.0, max_tokens=12))
    )
    assert len({s.text for s in samples}) == 4
    assert {s.finish_reason for s in samples} == {"length"} and {s.completion_tokens for s in samples} == {12}


async def test_a_prefilled_answer_is_gone_on_from(engine: Engine) -> None:
    (completion,) = await engine.generate(chat("Count to five.", prefill="1, 2, 3,"))
    assert completion.text.lstrip().startswith("4")


async def test_a_raw_prompt_logprobs_stop_and_a_seed(engine: Engine) -> None:
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


async def test_a_prompt_that_is_too_long_fails_alone(engine: Engine) -> None:
    too_long, fine = await asyncio.gather(
        engine.generate(chat("word " * 2000)), engine.generate(chat("Say hello.")), return_exceptions=True
    )
    assert isinstance(too_long, EngineError) and not too_long.retryable
    assert fine[0].text


async def test_a_model_that_differs_in_its_weights_is_served_without_a_new_start(
    pool: EnginePool, tmp_path: Path
) -> None:
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


async def test_requests_survive_the_death_of_the_engine_and_nothing_is_left_of_it(engine: Engine) -> None:
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


async def test_arguments_that_vllm_does_not_know_are_named(local_ray: Any) -> None:
    wrong = {"kind": "vllm", "args": {"max_model_length": 512}}
    pool = EnginePool(tiny_recipe(engine=wrong), VllmEngine(**wrong))
    with pytest.raises(ConfigError, match="max_model_length"):
        await pool.use(resolve_model(PACKAGED))
    await pool.free()


async def test_the_log_probabilities_of_a_given_text(engine: Engine) -> None:
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


def test_the_arguments_that_a_run_may_change_are_vllms() -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    keys = VllmEngine.may_change
    changeable = [key.removeprefix("args.") for key in keys if key.startswith("args.")]
    assert changeable and all(name in AsyncEngineArgs.__dataclass_fields__ for name in changeable)
