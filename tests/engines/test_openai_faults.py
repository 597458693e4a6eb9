"""The openai engine on an endpoint that fails: what is retried, when it gives up, how long it waits."""

import asyncio
import pickle
import time
from email.utils import formatdate

import pytest

from pipeline.engines.retry import Retrier, retry_after_seconds
from pipeline.errors import EngineError, EngineLost
from pipeline.retries import MAX_BACKOFF, MAX_RETRY_AFTER
from tests.engines.ask_openai import chat, client_of, fixed, outcome
from tests.engines.server import Fault, LocalServer, shares

HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


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


async def test_half_a_character_fails_its_row_for_good_and_at_once(server: LocalServer) -> None:
    body = b'{"choices": [{"index": 0, "message": {"content": "a \\ud83d b"}, "finish_reason": "stop"}]}'
    with pytest.raises(EngineError, match="half of a surrogate pair") as caught:
        await outcome(server, Fault(body=body))
    assert not caught.value.retryable and server.requests == 1
    with pytest.raises(EngineError, match="cannot be written as JSON"):
        chat("a \ud83d b").key("m")
