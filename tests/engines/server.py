"""A local OpenAI-compatible endpoint for tests and benchmarks.

It answers at once, late, wrongly or not at all, as told. GET /stats on its port gives the counts.

async with LocalServer(latency=0.05) as server: ...  # server.url, server.requests, server.max_concurrent
python -m tests.engines.server --port 0 --latency 0.05  # prints its URL
"""

import argparse
import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiohttp import web

from pipeline.engines.scripted import hash_answer


@dataclass(slots=True, frozen=True)
class Seen:
    """A request as it came in: its number (from 0, in order of arrival), path, headers and body."""

    number: int
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass(slots=True, frozen=True)
class Fault:
    """What is done to a request instead of, or besides, answering it rightly."""

    status: int = 200
    body: bytes | None = None  # None: the right answer for status 200, else an OpenAI error
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds, on top of the latency
    cut: float = 1.0  # send this share of the body, with a Content-Length that fits: valid HTTP, invalid JSON
    reset: bool = False  # close the connection without an answer


Plan = Callable[[Seen], Fault | None]


def in_order(*faults: Fault | None) -> Plan:
    """Return the plan that gives the first requests these faults, in order of arrival.

    Later requests get none.
    """
    return lambda seen: faults[seen.number] if seen.number < len(faults) else None


def shares(fault_share: float) -> Plan:
    """Return the plan that fails this share of all request bodies the first time each is seen.

    The faults take turns: 429, 500, reset, cut.
    """
    kinds = (Fault(429, headers={"Retry-After": "0"}), Fault(500), Fault(reset=True), Fault(cut=0.5))
    times: Counter[int] = Counter()

    def plan(seen: Seen) -> Fault | None:
        key = _hash(seen.body)
        times[key] += 1
        return kinds[key % len(kinds)] if times[key] == 1 and (key >> 8) % 1000 < fault_share * 1000 else None

    return plan


class LocalServer:
    """The endpoint, on 127.0.0.1. `plan` and `latency` may be changed while it runs."""

    def __init__(
        self,
        *,
        latency: float = 0.0,
        plan: Plan | None = None,
        max_n: int | None = None,
        port: int = 0,
        keep: int = 1000,
    ) -> None:
        """Set up a server that listens once it is entered.

        `latency` is in seconds; `max_n`: never give more choices than this; `keep` the last requests in
        `seen`; `port` 0 is any free one.
        """
        self.latency, self.plan, self.max_n, self.port = latency, plan, max_n, port
        self.requests = self.concurrent = self.max_concurrent = 0
        self.seen: deque[Seen] = deque(maxlen=keep)
        self.connections: set[Any] = set()  # the clients' addresses
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base_url of the endpoint."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self._handle)
        app.router.add_post("/v1/completions", self._handle)
        app.router.add_get("/stats", self._stats)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def stats(self) -> dict[str, int]:
        """Return the counts of requests, of the most that were there at once, and of connections."""
        return {
            "requests": self.requests,
            "max_concurrent": self.max_concurrent,
            "connections": len(self.connections),
        }

    async def _stats(self, _: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(self.stats()), content_type="application/json")

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        number, self.requests = self.requests, self.requests + 1
        self.concurrent += 1
        self.max_concurrent = max(self.max_concurrent, self.concurrent)
        try:
            assert request.transport is not None
            self.connections.add(request.transport.get_extra_info("peername"))
            seen = Seen(number, request.path, request.headers, orjson.loads(await request.read()))
            self.seen.append(seen)
            fault = (self.plan(seen) if self.plan else None) or Fault()
            if self.latency + fault.delay:
                await asyncio.sleep(self.latency + fault.delay)
            return self._respond(request, seen, fault)
        finally:
            self.concurrent -= 1

    def _respond(self, request: web.Request, seen: Seen, fault: Fault) -> web.StreamResponse:
        if fault.reset:
            assert request.transport is not None
            request.transport.abort()
        body = fault.body
        if body is None:
            good = fault.status == 200
            body = orjson.dumps(
                reply(seen, self.max_n)
                if good
                else {"error": {"message": "as planned", "code": fault.status}}
            )
        body = body[: int(len(body) * fault.cut)]
        return web.Response(
            body=body, status=fault.status, headers={"Content-Type": "application/json", **fault.headers}
        )


def reply(seen: Seen, max_n: int | None = None) -> dict[str, Any]:
    """Return the right answer, cut at max_tokens words, a word being a token.

    It depends on the body and the sample index alone.
    """
    body, key = seen.body, _hash(seen.body)
    chat = seen.path.endswith("/chat/completions")
    choices = []
    for index in range(min(body.get("n", 1), max_n or body.get("n", 1))):
        words = hash_answer(key, index).replace("\n", " \n").split(" ")
        kept = words[: body.get("max_tokens", 16)]
        choice: dict[str, Any] = {
            "index": index,
            "finish_reason": "stop" if len(kept) == len(words) else "length",
        }
        text = " ".join(kept)
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if body.get("logprobs", False) is not False:  # 0 asks for them as well
            values = [-(index + 1) / 8] * len(kept)
            content = [
                {"token": w, "logprob": v, "top_logprobs": []} for w, v in zip(kept, values, strict=True)
            ]
            choice["logprobs"] = {"content": content} if chat else {"tokens": kept, "token_logprobs": values}
        choices.append((choice, len(kept)))
    prompt_tokens = sum(len(text.split()) for text in _texts(body))
    completion_tokens = sum(tokens for _, tokens in choices)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    kind = "chat.completion" if chat else "text_completion"
    return {
        "id": f"local-{seen.number}",
        "object": kind,
        "model": body["model"],
        "choices": [c for c, _ in choices],
        "usage": usage,
    }


def _texts(body: dict[str, Any]) -> Iterable[str]:
    return [body["prompt"]] if "prompt" in body else [message["content"] for message in body["messages"]]


def _hash(body: dict[str, Any]) -> int:
    return int.from_bytes(
        hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
    )


async def _serve(arguments: argparse.Namespace) -> None:
    plan = shares(arguments.fault_share) if arguments.fault_share else None
    async with LocalServer(
        latency=arguments.latency, plan=plan, max_n=arguments.max_n, port=arguments.port, keep=1
    ) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until killed; the first line of the output is the base_url."""
    parser = argparse.ArgumentParser(
        description="A local OpenAI-compatible endpoint for tests and benchmarks."
    )
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--max-n", type=int, help="never give more choices than this")
    parser.add_argument(
        "--fault-share",
        type=float,
        default=0.0,
        help="share of requests that fail the first time: 429, 500, reset, cut JSON",
    )
    try:
        asyncio.run(_serve(parser.parse_args()))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
