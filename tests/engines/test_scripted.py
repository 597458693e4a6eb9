"""The scripted engine: everything that happens to a request follows from the request."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import pytest

from pipeline.config import ScriptedEngine
from pipeline.engines.base import Completion, EngineStatus, Request, Sampling
from pipeline.engines.scripted import ScriptedClient, hash_answer
from pipeline.errors import ConfigError, EngineError

HERE = "tests.engines.test_scripted"
NOT_A_FUNCTION = 3


def echo(request: Request, index: int) -> str:
    return f"{request.prompt} {index}"


async def echo_later(request: Request, index: int) -> str:
    await asyncio.sleep(0)
    return echo(request, index)


def whole_completion(request: Request, index: int) -> Completion:
    return Completion("done", "content_filter", 1, 2)


def refuse(request: Request, index: int) -> str:
    raise EngineError("not this one", retryable=True)


def client(**settings: Any) -> ScriptedClient:
    return ScriptedClient(ScriptedEngine(kind="scripted", **settings))


def prompts(count: int) -> Iterable[Request]:
    return (Request(prompt="Q", row=str(i)) for i in range(count))


async def errors(engine: ScriptedClient, count: int) -> list[EngineError | None]:
    """The error of each of `count` requests, None where it was answered."""
    outcomes = await asyncio.gather(
        *(engine.generate(request) for request in prompts(count)), return_exceptions=True
    )
    assert all(isinstance(o, list | EngineError) for o in outcomes)
    return [o if isinstance(o, EngineError) else None for o in outcomes]


async def test_answers_follow_from_the_request() -> None:
    request = Request(messages=[{"role": "user", "content": "How many?"}], n=3, row="r")
    first, again = await client().generate(request), await client().generate(request)
    assert first == again and len({c.text for c in first}) == 3
    for completion in first:
        *_, last = completion.text.split("\n")
        assert last.startswith("Answer: ") and last.removeprefix("Answer: ").isdigit()
        assert (completion.finish_reason, completion.prompt_tokens, completion.completion_tokens) == (
            "stop",
            2,
            16,
        )


async def test_rows_and_sample_indices_get_answers_of_their_own() -> None:
    requests = [Request(prompt="Q", row=row, sample_index=index) for row in "abcd" for index in range(4)]
    assert len({(await client().generate(r))[0].text for r in requests}) == 16


def test_hash_answers_differ_and_spread() -> None:
    texts = [hash_answer(key * 0x1234567890ABCDEF1234567, index) for key in range(1000) for index in range(4)]
    assert len(set(texts)) == 4000
    assert len({text.rsplit(" ", 1)[1] for text in texts}) == 100


async def test_an_answer_over_max_tokens_is_cut() -> None:
    request = Request(prompt="Q", sampling=Sampling(max_tokens=4))
    (whole,), (cut,) = await client().generate(Request(prompt="Q")), await client().generate(request)
    assert whole.finish_reason == "stop"
    assert (cut.finish_reason, len(cut.text.split()), cut.completion_tokens) == ("length", 4, 4)
    (exact,) = await client(answers=f"{HERE}:echo").generate(
        Request(prompt="a  b\nc ", sampling=Sampling(max_tokens=4))
    )
    assert (exact.text, exact.finish_reason) == ("a  b\nc  0", "stop")
    (cut,) = await client(answers=f"{HERE}:echo").generate(
        Request(prompt="a  b\nc ", sampling=Sampling(max_tokens=2))
    )
    assert (cut.text, cut.finish_reason) == ("a  b", "length")


async def test_token_counts_and_logprobs() -> None:
    request = Request(prompt="one two", prefill="three", sampling=Sampling(logprobs=0))
    (claimed,), (counted,) = (
        await client(tokens=5).generate(request),
        await client(tokens=0).generate(request),
    )
    assert (claimed.completion_tokens, counted.completion_tokens) == (5, 14)
    assert claimed.logprobs == [-1.0] * 5 and claimed.prompt_tokens == 3


@pytest.mark.parametrize("name", ["echo", "echo_later"])
async def test_answers_from_a_function(name: str) -> None:
    completions = await client(answers=f"{HERE}:{name}").generate(Request(prompt="Q", n=3))
    assert [c.text for c in completions] == ["Q 0", "Q 1", "Q 2"]


async def test_a_function_may_return_a_completion_or_raise() -> None:
    (completion,) = await client(answers=f"{HERE}:whole_completion").generate(Request(prompt="Q"))
    assert completion == Completion("done", "content_filter", 1, 2)
    with pytest.raises(EngineError, match="not this one"):
        await client(answers=f"{HERE}:refuse").generate(Request(prompt="Q"))


@pytest.mark.parametrize(
    "answers", ["other", f"{HERE}:missing", "no_such_module:f", f"{HERE}:NOT_A_FUNCTION"]
)
def test_answers_that_cannot_be_used(answers: str) -> None:
    with pytest.raises(ConfigError, match="answers"):
        client(answers=answers)


async def test_the_share_that_fails_is_retried_and_counted() -> None:
    engine = client(fail_share=0.3)
    assert await errors(engine, 1000) == [None] * 1000
    assert 230 < engine.retries < 370
    without_retries = client(fail_share=0.3, max_retries=0)
    failed = [e for e in await errors(without_retries, 1000) if e]
    assert len(failed) == engine.retries and all(e.retryable for e in failed) and without_retries.retries == 0


async def test_the_share_that_is_rejected_is_rejected_for_good() -> None:
    first, again = (
        await errors(client(reject_share=0.2), 1000),
        await errors(client(reject_share=0.2, fail_share=0.5), 1000),
    )
    rejected = [e for e in first if e]
    assert 140 < len(rejected) < 260 and not any(e.retryable for e in rejected)
    assert [e is None for e in first] == [e is None for e in again]
    assert not any(await errors(client(), 100)) and all(await errors(client(reject_share=1), 100))


async def test_latency_varies_by_request_and_all_run_at_once() -> None:
    engine = client(latency=0.2, jitter=0.5)
    finished: list[str] = []

    async def ask(request: Request) -> None:
        await engine.generate(request)
        finished.append(request.row)

    start = time.monotonic()
    tasks = [asyncio.create_task(ask(request)) for request in prompts(50)]
    await asyncio.sleep(0)
    assert engine.status() == EngineStatus(running=50, waiting=0)
    await asyncio.gather(*tasks)
    assert 0.1 < time.monotonic() - start < 5 and engine.status() == EngineStatus(0, 0)
    assert finished != sorted(finished, key=int)


async def test_cancelled_requests_are_not_counted() -> None:
    engine = client(latency=30)
    task = asyncio.create_task(engine.generate(Request(prompt="Q")))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.status() == EngineStatus(0, 0)


@pytest.mark.parametrize(
    ("prompt", "code", "output"), [("a fatal row", -signal.SIGKILL, ""), ("another row", 0, "Answer: ")]
)
def test_kill_on_kills_the_process_it_runs_in(prompt: str, code: int, output: str) -> None:
    script = (
        "import asyncio, sys\n"
        "from pipeline.config import ScriptedEngine\n"
        "from pipeline.engines.base import Request\n"
        "from pipeline.engines.scripted import ScriptedClient\n"
        "engine = ScriptedClient(ScriptedEngine(kind='scripted', kill_on='fatal'))\n"
        "request = Request(messages=[{'role': 'user', 'content': sys.argv[1]}])\n"
        "print(asyncio.run(engine.generate(request))[0].text)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, prompt], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code and output in done.stdout
