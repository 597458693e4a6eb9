"""What every engine understands: a request, its completions, and the protocol between them."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field

Message = dict[str, str]
# Sampling.extra of a request for Completion.prefill_logprobs; the field is vLLM's own.
SCORED = {"prompt_logprobs": 0}


class Sampling(BaseModel):
    """Sampling parameters, in vLLM's names. `extra` is passed on untouched (any SamplingParams or API field)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="0 considers every token")
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0)
    max_tokens: int = Field(512, ge=1)
    stop: tuple[str, ...] = ()
    logprobs: int | None = Field(
        None, ge=0, description="log-probabilities of the sampled tokens and this many others"
    )
    seed: int | None = Field(
        None, description="per request; GPU only: it kills vLLM's CPU engine and is left out there"
    )
    extra: dict[str, Any] = Field(default_factory=dict)

    def override(self, **changes: Any) -> "Sampling":
        """Return a copy with some parameters changed; model_copy would keep the cached as_json."""
        return Sampling(**{**self.model_dump(), **changes})

    @cached_property
    def as_json(self) -> dict[str, Any]:
        """The parameters as JSON values. Computed once: it is part of every request's key and record."""
        return self.model_dump(mode="json")


@dataclass(slots=True, frozen=True)
class Request:
    """One call of the model for `n` samples.

    Exactly one of `messages` and `prompt` is set. `prefill` is the beginning of the assistant's turn, which the model
    goes on from. `row` is the id of the row that asks: it is part of the key, so that two rows with the same text get
    samples of their own. `sample_index` tells repeated calls of one row apart. `json_schema` asks for guided decoding.
    `role` names the adapter that answers, where the model has one of that name; else the model itself does.
    """

    messages: list[Message] | None = None
    prompt: str | None = None
    prefill: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    row: str = ""
    sample_index: int = 0
    json_schema: dict[str, Any] | None = None
    step: str = ""  # name of the prompt template, for people; not part of the key
    role: str = ""
    _known: tuple[str, str] | None = field(default=None, init=False, repr=False, compare=False)

    def key(self, model: str) -> str:
        """Return the key under which the answer is durable. `model` is "name@revision"."""
        if self._known is None or self._known[0] != model:
            object.__setattr__(
                self, "_known", (model, self._key(model))
            )  # asked for by the row's LLM and by the log
        return self._known[1]

    def _key(self, model: str) -> str:
        asked = [
            model,
            self.messages,
            self.prompt,
            self.prefill,
            self.sampling.as_json,
            self.n,
            self.row,
            self.sample_index,
            self.json_schema,
        ]
        asked += [self.role] if self.role else []
        return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


@dataclass(slots=True, frozen=True)
class Completion:
    """One sample. `finish_reason` is "stop" or "length"; counts are tokens; `logprobs` holds one value per token.

    `prefill_logprobs` is what the model gives to the request's prefill, one value for each of its tokens, when `sampling.extra`
    has SCORED. The first token of all, which nothing goes before, has none.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    logprobs: list[float] | None = None
    prefill_logprobs: list[float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the completion as a JSON object, without fields that are not set."""
        record = {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }
        further = {"logprobs": self.logprobs, "prefill_logprobs": self.prefill_logprobs}
        return record | {name: values for name, values in further.items() if values is not None}


@dataclass(slots=True, frozen=True)
class EngineStatus:
    """Requests that are being decoded and requests that wait, as the engine itself counts them.

    And how the prefix cache did since the engine's start: prompt tokens that were looked up in it, and those found. 0 where an engine
    does not say.
    """

    running: int
    waiting: int
    looked_up: int = 0
    found: int = 0


class Engine(Protocol):
    """The one protocol. `generate` raises EngineError (retryable or not) or EngineDied, never returns fewer than n."""

    async def start(self) -> None: ...

    async def generate(self, request: Request) -> list[Completion]: ...

    def status(self) -> EngineStatus: ...

    async def close(self) -> None: ...
