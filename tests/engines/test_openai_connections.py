"""Connections of the openai engine: how many, when they end, the key, the address and the proxy."""

import asyncio
from collections.abc import Callable

import orjson
import pytest

from pipeline.config import OpenaiEngine
from pipeline.engines import retry
from pipeline.engines.base import EngineStatus
from pipeline.engines.openai import OpenAIClient
from pipeline.errors import ConfigError, EngineDied, EngineError
from tests.engines.ask_openai import chat, client_of, outcome
from tests.engines.server import Fault, LocalServer, Seen

KEY = "sk-secret-0123456789abcdef"


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


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)
