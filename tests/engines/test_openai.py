"""The openai engine against a real local server, one behaviour at a time."""

import asyncio
import pickle
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chat import Chat
from pipeline.config import OpenaiEngine
from pipeline.engines import retry
from pipeline.engines.base import Completion, EngineStatus, Request, Sampling
from pipeline.engines.openai import OpenAIClient
from pipeline.engines.openai_format import apportion, build_body
from pipeline.engines.retry import Retrier, retry_after_seconds
from pipeline.errors import ConfigError, EngineDied, EngineError, EngineLost
from pipeline.models import ModelRef
from pipeline.retries import MAX_BACKOFF, MAX_RETRY_AFTER
from tests.engines.server import Fault, LocalServer, Seen, in_order, shares

KEY = "sk-secret-0123456789abcdef"
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def chat(text: str = "How many?", **fields: Any) -> Request:
    return Request(messages=[{"role": "user", "content": text}], **fields)


@asynccontextmanager
async def client_of(url: str, **settings: Any) -> AsyncIterator[OpenAIClient]:
    client = OpenAIClient(
        OpenaiEngine(kind="openai", base_url=url, model="tiny", **{"backoff": 0.01, **settings})
    )
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def fixed(*contents: str | None, finish: str | None = "stop", **fields: Any) -> Fault:
    """The reply with these contents as choices; `fields` are laid over it."""
    choices = [
        {"index": i, "message": {"content": text}, "finish_reason": finish} for i, text in enumerate(contents)
    ]
    return Fault(
        body=orjson.dumps(
            {"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 10}, **fields}
        )
    )


async def outcome(
    server: LocalServer, *faults: Fault | None, request: Request | None = None, **settings: Any
) -> list[Completion]:
    """Ask once, on a server that does `faults` to its first requests."""
    server.plan = in_order(*faults)
    async with client_of(server.url, **settings) as client:
        return await client.generate(request or chat())


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with LocalServer() as server:
        yield server


# What is sent


async def test_messages_go_to_chat_and_prompts_to_completions(server: LocalServer) -> None:
    async with client_of(server.url) as client:
        (of_messages,) = await client.generate(chat("one two"))
        (of_prompt,) = await client.generate(Request(prompt="one two three", prefill=" four"))
        assert client.status() == EngineStatus(0, 0) and client.retries == 0
    assert [seen.path for seen in server.seen] == ["/v1/chat/completions", "/v1/completions"]
    assert server.seen[0].body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "one two"}],
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 512,
    }
    assert server.seen[1].body["prompt"] == "one two three four"
    assert "Answer: " in of_messages.text and "Answer: " in of_prompt.text
    assert (of_messages.finish_reason, of_messages.prompt_tokens, of_messages.completion_tokens) == (
        "stop",
        2,
        14,
    )
    assert of_prompt.prompt_tokens == 4 and of_messages.logprobs is None


async def test_the_same_request_gets_the_same_answer_and_another_one_another(server: LocalServer) -> None:
    async with client_of(server.url) as client:
        first, again, other = [await client.generate(chat(text, n=2)) for text in ("a", "a", "b")]
    assert first == again != other and first[0] != first[1]


async def test_prefill_is_the_last_message_and_is_to_be_continued(server: LocalServer) -> None:
    await outcome(server, request=chat("Q", prefill="Let us"))
    body = server.seen[0].body
    assert body["messages"] == [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "Let us"}]
    assert body["continue_final_message"] is True and body["add_generation_prompt"] is False


async def test_sampling_fields_under_their_openai_names(server: LocalServer) -> None:
    sampling = Sampling(
        temperature=0,
        top_p=0.9,
        top_k=5,
        min_p=0.1,
        repetition_penalty=1.2,
        max_tokens=3,
        stop=("#",),
        seed=4,
    )
    (completion,) = await outcome(server, request=chat(sampling=sampling))
    body = server.seen[0].body
    assert {
        name: body[name]
        for name in (
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "repetition_penalty",
            "max_tokens",
            "stop",
            "seed",
        )
    } == {
        **sampling.model_dump(
            include={"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"}
        ),
        "stop": ["#"],
    }
    assert completion.finish_reason == "length" and completion.completion_tokens == 3


async def test_json_schema_becomes_a_response_format(server: LocalServer) -> None:
    await outcome(server, request=chat(json_schema={"type": "object"}))
    form = server.seen[0].body["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["schema"] == {"type": "object"}


async def test_extra_fields_are_laid_over_and_null_takes_a_field_away(server: LocalServer) -> None:
    request = chat(sampling=Sampling(extra={"b": 3, "min_tokens": 2}))
    await outcome(
        server, request=request, extra_body={"a": 1, "b": 2, "max_tokens": None, "max_completion_tokens": 9}
    )
    body = server.seen[0].body
    assert (body["a"], body["b"], body["min_tokens"], body["max_completion_tokens"]) == (1, 3, 2, 9)
    assert "max_tokens" not in body


@pytest.mark.parametrize(
    "request_", [chat(sampling=Sampling(logprobs=2)), Request(prompt="Q", sampling=Sampling(logprobs=0))]
)
async def test_logprobs_are_one_number_per_token(server: LocalServer, request_: Request) -> None:
    (completion,) = await outcome(server, request=request_)
    assert completion.logprobs == [-0.125] * completion.completion_tokens
    assert server.seen[0].body["logprobs"] == (True if request_.messages else 0)


async def test_logprobs_that_do_not_come_are_an_error(server: LocalServer) -> None:
    with pytest.raises(EngineError, match="no log-probabilities") as e:
        await outcome(server, fixed("42"), request=chat(sampling=Sampling(logprobs=1)))
    assert not e.value.retryable and server.requests == 1


@pytest.mark.parametrize("request_", [Request(), Request(messages=[], prompt="Q"), chat("\ud800")])
async def test_a_request_that_cannot_be_sent_is_one_bad_request(
    server: LocalServer, request_: Request
) -> None:
    with pytest.raises(EngineError) as e:
        await outcome(server, request=request_)
    assert not e.value.retryable and server.requests == 0


# Several samples


async def test_n_samples_come_in_one_request(server: LocalServer) -> None:
    completions = await outcome(server, request=chat(n=5))
    assert len({c.text for c in completions}) == 5 and server.requests == 1 and server.seen[0].body["n"] == 5


@pytest.mark.parametrize(("max_n", "requests"), [(1, 5), (2, 3), (3, 2)])
async def test_missing_samples_are_asked_for_when_the_endpoint_ignores_n(
    server: LocalServer, max_n: int, requests: int
) -> None:
    server.max_n = max_n
    completions = await outcome(server, request=chat(n=5, sampling=Sampling(seed=10)))
    assert len({c.text for c in completions}) == 5 and server.requests == requests
    assert sorted(seen.body["seed"] for seen in server.seen) == list(range(10, 15, max_n))


async def test_later_samples_of_a_prompt_have_seeds_of_their_own(server: LocalServer) -> None:
    """A method that asks the same prompt again says from which sample on."""
    await outcome(server, request=chat(n=2, sample_index=2, sampling=Sampling(seed=10)))
    assert server.seen[0].body["seed"] == 12


async def test_never_fewer_samples_in_silence(server: LocalServer) -> None:
    with pytest.raises(EngineError, match="gave 3 of 4 samples") as e:
        await outcome(server, fixed("a", "b"), fixed("c"), request=chat(n=4))
    assert e.value.retryable and server.requests == 2


async def test_a_failing_request_for_missing_samples_fails_the_whole(server: LocalServer) -> None:
    server.max_n = 1
    with pytest.raises(EngineError, match="answered 400"):
        await outcome(server, None, None, Fault(400), request=chat(n=3))


async def test_more_samples_than_asked_for_are_left_out(server: LocalServer) -> None:
    assert [c.text for c in await outcome(server, fixed("a", "b", "c"), request=chat(n=2))] == ["a", "b"]


async def test_completion_tokens_are_shared_out_exactly(server: LocalServer) -> None:
    completions = await outcome(server, fixed("a", "bb" * 3, "c"), request=chat(n=3))
    assert [c.completion_tokens for c in completions] == [1, 8, 1]
    assert [c.prompt_tokens for c in completions] == [7, 7, 7]


async def test_logprobs_tell_the_token_counts_of_several_samples(server: LocalServer) -> None:
    completions = await outcome(server, request=chat(n=3, sampling=Sampling(logprobs=0, max_tokens=9)))
    assert (
        [c.completion_tokens for c in completions]
        == [9, 9, 9]
        == [len(c.logprobs or ()) for c in completions]
    )


async def test_without_usage_counts_are_zero(server: LocalServer) -> None:
    completions = await outcome(server, fixed("a", "b", usage=None), request=chat(n=2))
    assert [(c.prompt_tokens, c.completion_tokens) for c in completions] == [(0, 0)] * 2


@given(st.integers(0, 10_000), st.lists(st.integers(0, 500), min_size=1, max_size=12))
def test_apportion_sums_to_the_total(total: int, weights: list[int]) -> None:
    shares = apportion(total, weights)
    assert sum(shares) == total and min(shares) >= 0
    if whole := sum(weights):
        assert all(
            abs(share - total * weight / whole) < 1 for share, weight in zip(shares, weights, strict=True)
        )


# Faults


@pytest.mark.parametrize(
    "fault",
    [
        *[Fault(status) for status in (408, 409, 429, 500, 502, 503, 529)],
        Fault(reset=True),
        Fault(cut=0.5),
        Fault(cut=0.0),
        Fault(body=HTML, headers={"Content-Type": "text/html"}),
        Fault(body=b'{"error": {"message": "overloaded"}}'),
        Fault(body=b"[]"),
        fixed(),
        fixed(None),
        fixed("half an", finish=None),
        fixed("half an", finish="abort"),
    ],
    ids=repr,
)
async def test_retried_and_then_answered(server: LocalServer, fault: Fault) -> None:
    (completion,) = await outcome(server, fault, fault)
    assert "Answer: " in completion.text and server.requests == 3


@pytest.mark.parametrize("status", [307, 400, 401, 403, 404, 422])
async def test_refusals_are_final(server: LocalServer, status: int) -> None:
    with pytest.raises(
        EngineError, match=f"{server.url}/chat/completions answered {status} .*as planned"
    ) as e:
        await outcome(server, *[Fault(status, headers={"Location": "https://elsewhere/v1"})] * 9)
    assert not e.value.retryable and server.requests == 1 and "as planned" in e.value.raw
    assert isinstance(e.value, EngineLost) == (status in (401, 404)), (
        "no key, no such model: no row can be blamed for that"
    )


async def test_gives_up_after_max_retries_and_says_what_came(server: LocalServer) -> None:
    with pytest.raises(EngineError) as e:
        await outcome(server, *[Fault(503, body=b"x" * 2000)] * 9, max_retries=2)
    assert server.requests == 3 and e.value.retryable and e.value.raw == "x" * 2000
    assert "answered 503 Service Unavailable" in str(e.value) and "gave up after 3 attempts" in str(e.value)
    assert str(e.value).count("x") < 510
    assert str(pickle.loads(pickle.dumps(e.value))) == str(e.value)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Fault(body=HTML), "502 Bad Gateway"),
        (fixed(), "it has no choices"),
        (fixed(None), "a choice has no content"),
        (Fault(body=b"{}"), "no 'choices'"),
        (Fault(cut=0.5), "malformed reply"),
    ],
)
async def test_malformed_replies_are_kept(server: LocalServer, fault: Fault, cause: str) -> None:
    with pytest.raises(EngineError, match=cause) as e:
        await outcome(server, *[fault] * 9, max_retries=1)
    assert e.value.retryable == (cause != "a choice has no content") and server.requests == 2, (
        "a refusal is the row's, an outage is nobody's"
    )
    assert e.value.raw and (fault.body is None or e.value.raw == fault.body.decode())


@pytest.mark.parametrize(
    ("content", "finish"),
    [("Some", "content_filter"), (None, "content_filter"), (None, "length"), ("", "stop")],
)
async def test_finish_reason_is_passed_through(server: LocalServer, content: str | None, finish: str) -> None:
    (completion,) = await outcome(server, fixed(content, finish=finish))
    assert (completion.text, completion.finish_reason, completion.completion_tokens) == (
        content or "",
        finish,
        10,
    )


async def test_timeouts_are_retried(server: LocalServer) -> None:
    await outcome(server, Fault(delay=30), request_timeout=0.5)
    assert server.requests == 2
    with pytest.raises(EngineError, match=r"did not answer within 0\.2 s .*2 attempts") as e:
        await outcome(server, *[Fault(delay=30)] * 9, request_timeout=0.2, max_retries=1)
    assert e.value.retryable


async def test_connection_refused_names_the_endpoint() -> None:
    async with LocalServer() as gone:
        url = gone.url
    async with client_of(url, max_retries=1) as client:
        with pytest.raises(EngineError, match=f"cannot connect to {url}: .*2 attempts") as e:
            await client.generate(chat())
    assert e.value.retryable


async def test_retry_after_is_honoured(server: LocalServer) -> None:
    start = time.monotonic()
    await outcome(server, Fault(429, headers={"Retry-After": "1"}))
    assert 1 <= time.monotonic() - start < 10 and server.requests == 2


def test_retry_after_in_seconds_or_as_a_date() -> None:
    assert [retry_after_seconds(value) for value in (None, "", "soon", "-1", "0", "2", "1.5")] == [
        0,
        0,
        0,
        0,
        0,
        2,
        1.5,
    ]
    assert 25 < retry_after_seconds(formatdate(time.time() + 30, usegmt=True)) <= 30
    assert retry_after_seconds(formatdate(time.time() - 30, usegmt=True)) == 0


def test_waits_are_bounded_and_jittered() -> None:
    retrier = Retrier(5, 0.5)
    assert all(0 <= retrier.wait(tried) <= min(MAX_BACKOFF, 0.5 * 2**tried) for tried in range(40))
    assert MAX_RETRY_AFTER <= retrier.wait(0, 1e9) <= MAX_RETRY_AFTER + 0.5
    assert len({retrier.wait(3) for _ in range(20)}) == 20
    assert Retrier(5).wait(3) == 0


async def test_many_faults_at_once_lose_nothing(server: LocalServer) -> None:
    server.plan = shares(0.3)
    async with client_of(server.url, concurrency=32) as client:
        answers = await asyncio.gather(*(client.generate(chat(f"question {i}")) for i in range(300)))
        assert 50 < client.retries < 150
    assert server.requests == 300 + client.retries and all("Answer: " in a.text for (a,) in answers)


# Concurrency


async def test_concurrency_limit_and_kept_connections(server: LocalServer) -> None:
    server.latency = 0.1
    async with client_of(server.url, concurrency=4) as client:
        tasks = [asyncio.create_task(client.generate(chat(str(i)))) for i in range(20)]
        await until(lambda: server.concurrent == 4)
        assert client.status() == EngineStatus(running=4, waiting=16)
        await asyncio.gather(*tasks)
        assert client.status() == EngineStatus(0, 0)
    assert server.max_concurrent == 4 and len(server.connections) == 4 and server.requests == 20


async def test_cancelling_releases_the_slots(server: LocalServer) -> None:
    server.plan = lambda seen: Fault(delay=30) if "slow" in seen.body["messages"][0]["content"] else None
    async with client_of(server.url, concurrency=2) as client:
        slow = [asyncio.create_task(client.generate(chat(f"slow {i}", n=2))) for i in range(6)]
        await until(lambda: server.concurrent == 2)
        for task in slow:
            task.cancel()
        assert all(
            isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*slow, return_exceptions=True)
        )
        assert client.status() == EngineStatus(0, 0)
        async with asyncio.timeout(10):
            await asyncio.gather(*(client.generate(chat(f"fast {i}")) for i in range(8)))


async def test_one_rate_limited_request_holds_no_other_back(server: LocalServer) -> None:
    limited = Fault(429, headers={"Retry-After": "60"})
    server.plan = lambda seen: limited if "limited" in seen.body["messages"][0]["content"] else None
    async with client_of(server.url, concurrency=1) as client:
        waits = asyncio.create_task(client.generate(chat("limited")))
        await until(lambda: client.retries == 1)
        assert client.status() == EngineStatus(running=0, waiting=1)
        async with asyncio.timeout(10):
            await asyncio.gather(*(client.generate(chat(f"fast {i}")) for i in range(20)))
        waits.cancel()
    assert server.requests == 21


async def test_closed_clients_say_so_and_can_be_started_again(server: LocalServer) -> None:
    client = OpenAIClient(OpenaiEngine(kind="openai", base_url=server.url, model="tiny"))
    with pytest.raises(EngineDied, match="not started"):
        await client.generate(chat())
    await client.start()
    await client.close()
    await client.close()
    with pytest.raises(EngineDied, match="closed"):
        await client.generate(chat())
    await client.start()
    await client.start()
    assert await client.generate(chat())
    await client.close()


async def test_closing_ends_requests_under_way(server: LocalServer) -> None:
    server.latency = 30
    async with client_of(server.url) as client:
        task = asyncio.create_task(client.generate(chat()))
        await until(lambda: server.concurrent == 1)
    async with asyncio.timeout(10):
        with pytest.raises(EngineError):
            await task


# The key, the address


async def test_the_key_is_sent_and_never_shown(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TINY_KEY", f"{KEY}\n")
    caplog.set_level("DEBUG")
    # Not only by caplog: libraries that other tests start in this process reconfigure logging.
    logged: list[str] = []
    monkeypatch.setattr(retry.logger, "debug", lambda text, *args: logged.append(text % args))

    def echo(status: int) -> Callable[[Seen], Fault]:
        # The key straddles the end of what a message shows: cutting before scrubbing would leave a part.
        return lambda seen: Fault(
            status,
            body=b"x" * 485 + seen.headers["Authorization"].encode(),
            headers={"Location": f"/?key={KEY}"},
        )

    async with client_of(server.url, api_key_env="TINY_KEY", max_retries=1) as client:
        for status in (200, 307, 400, 401, 403, 500):
            server.plan = echo(status)
            with pytest.raises(EngineError) as e:
                await client.generate(chat())
            error: BaseException | None = e.value
            while error is not None:
                assert (
                    KEY[:6]
                    not in f"{error}{error!r}{getattr(error, 'raw', '')}{getattr(error, '__notes__', '')}"
                )
                error = error.__context__
            assert ("TINY_KEY" in str(e.value)) == (status in (401, 403))
        assert KEY not in f"{client!r}{client}{client.config!r}"
    assert server.seen[0].headers["Authorization"] == f"Bearer {KEY}"
    assert all(KEY not in orjson.dumps(seen.body).decode() for seen in server.seen)
    said = "\n".join([*logged, caplog.text])
    assert "attempt 1 failed" in said and KEY[:6] not in said


async def test_without_a_key_no_header_and_the_advice_names_the_setting(server: LocalServer) -> None:
    with pytest.raises(EngineError, match="set api_key_env"):
        await outcome(server, Fault(401))
    assert "Authorization" not in server.seen[0].headers


@pytest.mark.parametrize("value", [None, "", "  ", "two\nlines"])
async def test_a_missing_key_is_a_config_error(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("TINY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TINY_KEY", value)
    with pytest.raises(ConfigError, match="environment variable TINY_KEY") as e:
        async with client_of("http://127.0.0.1:9/v1", api_key_env="TINY_KEY"):
            pass
    assert "lines" not in str(e.value)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "", "ftp://host/v1", "http://", "http://[::1/v1"])
def test_a_base_url_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        OpenAIClient(OpenaiEngine(kind="openai", base_url=url, model="tiny"))


async def test_slash_and_query_of_the_base_url(server: LocalServer) -> None:
    for tail in ("/", "?api-version=1", "/?api-version=1"):
        async with client_of(server.url + tail) as client:
            assert await client.generate(chat())


async def test_the_environment_names_the_proxy(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", "direct.invalid")
    async with client_of("http://endpoint.invalid/v1") as client:
        assert await client.generate(chat())
    async with client_of("http://direct.invalid/v1", max_retries=0) as client:
        with pytest.raises(EngineError, match="cannot connect"):
            await client.generate(chat())
    assert server.requests == 1 and server.seen[0].headers["Host"] == "endpoint.invalid"


def test_build_body_keeps_the_request_as_it_is() -> None:
    request, config = (
        chat(prefill="Let"),
        OpenaiEngine(kind="openai", base_url="http://host/v1", model="tiny", extra_body={"a": 1}),
    )
    assert build_body(request, config, 3)["n"] == 3 and "n" not in build_body(request, config)
    assert len(request.messages or ()) == 1 and config.extra_body == {"a": 1}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


# Thoughts, parts and characters that nothing can store


async def test_reasoning_that_comes_apart_is_the_thought(server: LocalServer) -> None:
    for name in ("reasoning_content", "reasoning"):
        message = {"content": "Answer: 7", name: "By counting."}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        [answer] = await outcome(server, fixed(choices=choices))
        server.requests = 0
        assert (answer.text, answer.thought) == ("Answer: 7", "By counting.")
        assert answer.to_json()["thought"] == "By counting."
    [plain] = await outcome(server, fixed("Answer: 7"))
    assert plain.thought is None and "thought" not in plain.to_json()


async def test_content_in_parts_is_joined(server: LocalServer) -> None:
    parts = [{"type": "text", "text": "Answer: "}, {"type": "image_url"}, {"type": "text", "text": "7"}]
    choices = [{"index": 0, "message": {"content": parts}, "finish_reason": "stop"}]
    [answer] = await outcome(server, fixed(choices=choices))
    assert answer.text == "Answer: 7"


async def test_half_a_character_fails_its_row_for_good_and_at_once(server: LocalServer) -> None:
    body = b'{"choices": [{"index": 0, "message": {"content": "a \\ud83d b"}, "finish_reason": "stop"}]}'
    with pytest.raises(EngineError, match="half of a surrogate pair") as caught:
        await outcome(server, Fault(body=body))
    assert not caught.value.retryable and server.requests == 1
    with pytest.raises(EngineError, match="cannot be written as JSON"):
        chat("a \ud83d b").key("m")


async def test_variables_of_the_chat_template_are_sent_and_null_takes_them_away(server: LocalServer) -> None:
    config = OpenaiEngine(kind="openai", base_url=server.url, model="tiny")
    model = ModelRef("", "m", "1", chat=Chat(kwargs='{"enable_thinking":false}'))
    body = build_body(chat(), config, template_kwargs={"enable_thinking": False})
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in build_body(Request(prompt="x"), config, template_kwargs={"a": 1})
    config = config.model_copy(update={"extra_body": {"chat_template_kwargs": None}})
    assert "chat_template_kwargs" not in build_body(chat(), config, template_kwargs={"a": 1})
    plain = OpenAIClient.model_name(config, ModelRef("", "m", "1"))
    assert plain == f"tiny@{server.url}" and OpenAIClient.model_name(config, model).startswith(f"{plain}+")
    assert OpenAIClient.create(config, model)._template_kwargs == {"enable_thinking": False}
