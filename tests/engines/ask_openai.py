"""Asking a local endpoint through the openai engine, for the tests of that engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from pipeline.config import OpenaiEngine
from pipeline.engines.base import Completion, Request
from pipeline.engines.openai import OpenAIClient
from tests.engines.server import Fault, LocalServer, in_order


def chat(text: str = "How many?", **fields: Any) -> Request:
    """A request of one message."""
    return Request(messages=[{"role": "user", "content": text}], **fields)


@asynccontextmanager
async def client_of(url: str, **settings: Any) -> AsyncIterator[OpenAIClient]:
    """A started client; `settings` are those of `engine` in a recipe."""
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
