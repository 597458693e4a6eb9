"""The model as a stage function sees it: ask with a prompt template, get completions. One handle per row."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from pipeline.chat import PLAIN, Chat
from pipeline.engines.base import SCORED, Completion, Message, Request, Sampling
from pipeline.errors import EngineError
from pipeline.prompts import SHIPPED, Prompts

T = TypeVar("T")
Send = Callable[[Request], Awaitable[list[Completion]]]


class Other(NamedTuple):
    """A model at a seat of a stage: how it is asked, its "name@revision", and its chat."""

    send: Send
    model: str
    chat: Chat


class LLM:
    """Asks the model on behalf of one row.

    Every finished request is durable before its completions are returned.
    """

    __slots__ = ("_asked", "_chat", "_others", "_send", "model", "prompts", "round", "row", "sampling")

    def __init__(
        self,
        send: Send,
        row: str,
        model: str,
        sampling: Sampling,
        round: int | str = 0,
        prompts: Prompts = SHIPPED,
        chat: Chat = PLAIN,
        others: Mapping[str, Other] | None = None,
    ) -> None:
        """`model` is "name@revision"; `sampling` is the recipe's, used unless a call brings its own; `chat`
        divides answers from thoughts; `others` are the models at the stage's seats.

        `round` belongs into the ids of sampled rows, since each round asks the same questions again.
        """
        self._send, self.row, self.model, self.sampling, self.round = send, row, model, sampling, round
        self.prompts, self._chat = prompts, chat
        self._others = others or {}
        self._asked: dict[str, int] = {}

    def at(self, seat: str) -> "LLM":
        """Return what asks the model at a seat (Stage.seats); itself if the stage has no such seat."""
        if seat not in self._others:
            return self
        other = self._others[seat]
        llm = LLM(other.send, self.row, other.model, self.sampling, self.round, self.prompts, other.chat)
        llm._asked = self._asked
        return llm

    async def ask(
        self,
        step: str,
        *,
        n: int = 1,
        sampling: Sampling | None = None,
        prefill: str = "",
        json_schema: dict[str, Any] | None = None,
        sample_index: int | None = None,
        role: str = "",
        **variables: Any,
    ) -> list[Completion]:
        """Render the template `step` with `variables` and return `n` completions of it (see `chat`)."""
        return await self.chat(
            self.prompts.render(step, **variables),
            step=step,
            n=n,
            sampling=sampling,
            prefill=prefill,
            json_schema=json_schema,
            sample_index=sample_index,
            role=role,
        )

    async def chat(
        self,
        messages: list[Message],
        *,
        step: str = "",
        n: int = 1,
        sampling: Sampling | None = None,
        prefill: str = "",
        json_schema: dict[str, Any] | None = None,
        sample_index: int | None = None,
        role: str = "",
    ) -> list[Completion]:
        """Return `n` completions of a conversation, from the adapter called `role` where there is one. Their
        texts are without thoughts (Chat.divided).

        The k-th identical call of a row is a new sample, not the first one again. Calls that run concurrently
        reach this point in no fixed order: give those that may be identical a `sample_index` each, so that a
        rerun gets the same samples.
        """
        request = Request(
            messages,
            None,
            prefill,
            sampling or self.sampling,
            n,
            self.row,
            sample_index or 0,
            json_schema,
            step,
            role,
        )
        if sample_index is None:
            again = self._asked.get(key := request.key(self.model), 0)
            self._asked[key] = again + 1
            request = replace(request, sample_index=again) if again else request
        return [self._chat.divided(completion) for completion in await self._send(request)]

    async def score(self, prompt: str | list[Message], text: str, *, step: str = "") -> list[float]:
        """Return the log-probability of each token of `text` after `prompt`, without a chat template; after
        messages, as the model's answer to them.

        Raises EngineError when the engine gives no log-probabilities.
        """
        request = Request(
            messages=None if isinstance(prompt, str) else prompt,
            prompt=prompt if isinstance(prompt, str) else None,
            prefill=text,
            sampling=Sampling(temperature=0, max_tokens=1, extra=SCORED),
            row=self.row,
            step=step,
        )
        [completion] = await self._send(request)
        if not completion.prefill_logprobs:
            raise EngineError(
                "the engine returns no prompt log-probabilities; use engine kind vllm (evaluate.engine)"
            )
        return completion.prefill_logprobs


async def together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await calls concurrently.

    If one raises, the others finish first: their answers reach the log and are not paid twice.
    """
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]
