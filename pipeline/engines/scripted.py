"""Deterministic answers without a model: for tests, fault tests and overhead benchmarks."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from inspect import isawaitable

from pipeline.config import ScriptedEngine
from pipeline.engines.base import Completion, Engine, EngineStatus, Request
from pipeline.engines.retry import Failure, Retrier
from pipeline.errors import ConfigError
from pipeline.registry import resolve

Answer = str | Completion
Script = Callable[[Request, int], Answer | Awaitable[Answer]]

WORDS = (
    "the", "sum", "of", "all", "parts", "is", "first", "then", "second", "so", "we", "add", "each", "number",
    "to", "get", "that", "one", "from", "it", "and", "count", "what", "remains", "when", "half", "are",
    "taken", "away", "again", "by", "two",
)  # fmt: skip
HASH_WORDS = 12  # words before the answer line


class ScriptedClient(Engine):
    """Answers from a request's hash, or from a function. A request's key alone decides what happens to it."""

    Config = ScriptedEngine
    is_endpoint = False  # it plays whatever model it is given, so it may evaluate trained ones

    def __init__(self, config: ScriptedEngine) -> None:
        """Raises ConfigError when `config.answers` is neither "hash" nor an importable function."""
        super().__init__(config)
        self._script: Script | None = None
        if config.answers != "hash":
            self._script = resolve("scripted answers", config.answers)
            if not callable(self._script):
                raise ConfigError(
                    f"engine.answers: {config.answers!r} is not a function of (request, sample index)."
                )
        self._retrier = Retrier(config.max_retries)
        self._running = 0

    @property
    def retries(self) -> int:
        """Retries so far, over all requests."""
        return self._retrier.retries

    async def generate(self, request: Request) -> list[Completion]:
        """Return `request.n` completions after the request's latency.

        Raises EngineError for the requests that are to be rejected, and those that fail once if there are no
        retries. Token counts are words, unless `tokens` says otherwise for completions.
        """
        config = self.config
        if config.kill_on is not None and config.kill_on in _text(request):
            os.kill(os.getpid(), signal.SIGKILL)
        key = int(request.key("scripted"), 16)  # 128 bits; each decision below takes 32 of its own
        latency = config.latency * (1 + config.jitter * (2 * _unit(key >> 64) - 1))

        async def attempt(tried: int) -> list[Completion] | Failure:
            await asyncio.sleep(latency)  # even if 0: real engines yield to other tasks as well
            if _unit(key >> 32) < config.reject_share:
                return Failure("the scripted engine rejects this request", retryable=False)
            if not tried and _unit(key) < config.fail_share:
                return Failure("the scripted engine fails the first attempt of this request")
            return await self._answer(request, key)

        self._running += 1
        try:
            return await self._retrier.run(attempt)
        finally:
            self._running -= 1

    def status(self) -> EngineStatus:
        """Every request runs at once; none waits."""
        return EngineStatus(running=self._running, waiting=0)

    async def _answer(self, request: Request, key: int) -> list[Completion]:
        prompt_tokens = len(_text(request).split())
        completions = []
        for index in range(request.n):
            answer = hash_answer(key, index) if self._script is None else self._script(request, index)
            if isawaitable(answer):
                answer = await answer
            if not isinstance(answer, Completion):
                answer = self._complete(request, answer, prompt_tokens)
            completions.append(answer)
        return completions

    def _complete(self, request: Request, text: str, prompt_tokens: int) -> Completion:
        limit = request.sampling.max_tokens
        words = text.split(None, limit)  # at most `limit` words, then the rest as one
        truncated = len(words) > limit
        if truncated:
            text = text[: -len(words.pop())].rstrip()
        tokens = min(self.config.tokens or len(words), limit)
        logprobs = [-1.0] * tokens if request.sampling.logprobs is not None else None
        return Completion(text, "length" if truncated else "stop", prompt_tokens, tokens, logprobs)


def hash_answer(key: int, index: int = 0) -> str:
    """Return words and a line "Answer: <0 to 99>", for sample `index` of the request with the hash `key`."""
    # One multiplication (splitmix64) tells samples apart: hashing again would cost more than all the rest.
    bits = ((key ^ (key >> 64)) + (index + 1) * 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9 & (1 << 96) - 1
    bits ^= bits >> 41
    words = " ".join([WORDS[(bits >> 5 * place) % len(WORDS)] for place in range(HASH_WORDS)])
    return f"{words}\nAnswer: {(bits >> 60) % 100}"


def _unit(bits: int) -> float:
    """Map the low 32 of `bits` to [0, 1)."""
    return (bits & 0xFFFFFFFF) / 0x100000000


def _text(request: Request) -> str:
    """Return all text of the request, as a model would read it."""
    chat = request.messages
    texts = [request.prompt or ""] if chat is None else [message["content"] for message in chat]
    return "\n".join([*texts, request.prefill])
