"""What every engine understands: a request, its completions, and the class that an engine subclasses."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from pipeline import registry
from pipeline.errors import EngineDied, EngineError

if TYPE_CHECKING:
    from pipeline.models import ModelRef

Message = dict[str, str]
# Sampling.extra of a request that wants Completion.prefill_logprobs; the field is vLLM's own.
SCORED = {"prompt_logprobs": 0}


class Sampling(BaseModel):
    """Sampling parameters, under vLLM's names."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    """0 considers every token."""
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0)
    max_tokens: int = Field(512, ge=1)
    stop: tuple[str, ...] = ()
    logprobs: int | None = Field(None, ge=0)
    """Log-probabilities of the sampled tokens and of this many alternatives."""
    seed: int | None = None
    """Per request, on GPUs only: it crashes vLLM's CPU engine, so it is left out there."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Passed on as it is: any other field of vLLM's SamplingParams or of the endpoint's API."""

    @cached_property
    def as_json(self) -> dict[str, Any]:
        """The parameters as JSON values, computed once: they are part of every request's key and record."""
        return self.model_dump(mode="json")

    def override(self, **changes: Any) -> Self:
        """Return a validated copy with `changes`; model_copy would keep the original's `as_json`."""
        return type(self)(**{**self.model_dump(), **changes})


@dataclass(slots=True, frozen=True)
class Request:
    """One call of the model for `n` samples. Exactly one of `messages` and `prompt` is set.

    `prefill` is the beginning of the assistant's turn, which the model continues. `row` is the id of the row
    that asks: it is part of the key, so that two rows with the same text get different samples.
    `sample_index` tells repeated calls of one row apart. `json_schema` asks for guided decoding. `role` names
    the adapter that answers if the model has one of that name; otherwise the model itself does.
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
    _key: tuple[str, str] | None = field(default=None, init=False, repr=False, compare=False)

    def key(self, model: str) -> str:
        """Return the key under which the answer is stored. `model` is "name@revision". Raises EngineError."""
        cached = self._key  # the row's LLM and the log both ask
        if cached is None or cached[0] != model:
            parts = [model, self.messages, self.prompt, self.prefill, self.sampling.as_json, self.n, self.row]
            parts += [self.sample_index, self.json_schema, *([self.role] if self.role else [])]
            try:
                data = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
            except orjson.JSONEncodeError as e:  # half of a surrogate pair, most likely
                raise EngineError(f"the request cannot be written as JSON: {e}") from None
            cached = (model, hashlib.sha256(data).hexdigest()[:32])
            object.__setattr__(self, "_key", cached)
        return cached[1]


@dataclass(slots=True, frozen=True)
class Completion:
    """One sample; counts are tokens, `logprobs` has one value per token.

    `finish_reason` is "stop", "length" or the endpoint's own word. `prefill_logprobs` has one value per token
    of the request's prefill if `sampling.extra` contains SCORED; the very first token of a prompt has none.
    `thought` is what the model thought before it answered, where it comes apart from `text`; LLM.chat takes
    the thoughts within `text` out of it.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    logprobs: list[float] | None = None
    prefill_logprobs: list[float] | None = None
    thought: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the completion as a JSON object, without log-probabilities or a thought if it has none."""
        optional = ("logprobs", "prefill_logprobs", "thought")
        record = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in record.items() if value is not None or name not in optional}


@dataclass(slots=True, frozen=True)
class EngineStatus:
    """How busy an engine is, and how its prefix cache has done since the engine started.

    `running` requests are being decoded, `waiting` ones are queued, as the engine counts them. `looked_up`
    prompt tokens were looked up in the cache and `found` of them were there; both are 0 if unknown.
    """

    running: int
    waiting: int
    looked_up: int = 0
    found: int = 0


class EngineSection(BaseModel):
    """Base of the `engine` sections of recipes; unknown keys are errors.

    Settings in `may_change` may differ when a run is resumed; a change of any other makes its rows stale.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True, use_attribute_docstrings=True)

    may_change: ClassVar[tuple[str, ...]] = ()
    """Settings that no answer depends on, such as timeouts; dotted where they are nested."""
    kind: str
    """`vllm`, `openai`, `scripted`, or an engine of your own as `my_module:MyEngine`."""

    @property
    def implementation(self) -> "type[Engine]":
        """The engine's class. Raises ConfigError if `kind` does not name one."""
        return engine_class(self.kind)

    def identity(self) -> dict[str, Any]:
        """Return what answers depend on, as JSON for fingerprints."""
        exclude: dict[str, Any] = {}
        for key in self.may_change:
            name, _, inner = key.partition(".")
            exclude[name] = {**exclude.get(name, {}), inner: True} if inner else True
        return self.model_dump(mode="json", exclude=exclude)


class ReplicatedSection(EngineSection):
    """Base of the sections of engines that run as replicas in Ray actors (Engine.replicated)."""

    may_change: ClassVar[tuple[str, ...]] = (
        *("request_timeout", "replicas", "cpu_cores", "gpus", "start_timeout", "heartbeat_seconds"),
    )
    request_timeout: PositiveFloat | None = None
    """Seconds per request, in the engine's queue included. Default: none; see runner.no_progress_seconds."""
    replicas: PositiveInt = 1
    cpu_cores: PositiveInt | None = None
    """Cores per replica on a machine without a GPU. Default: an even share of all cores."""
    gpus: float | None = Field(None, ge=0)
    """GPUs per replica. Default: what the model's parallelism needs, or 0 on a cluster without GPUs."""
    start_timeout: PositiveFloat = 900
    """Seconds within which the engine must be ready, loading of the model included."""
    heartbeat_seconds: PositiveFloat | None = 600
    """An engine with requests in flight that finishes none, makes no tokens and does not answer for this long
    is ended and started again, once per stage; the second time the stage stops. Null: never."""

    def gpus_needed(self) -> float:
        """Return the GPUs per replica on a cluster that has GPUs, unless `gpus` is set."""
        return 1


class Engine(ABC):
    """What answers requests. Subclass it to add an engine: `engine: {kind: my_module:MyEngine}`.

    By default each stage worker creates an engine in its own process and sends it many requests at once, all
    from one event loop. A `replicated` engine runs in Ray actors instead, which outlive a stage and serve all
    workers.
    """

    Config: ClassVar[type[EngineSection]]
    """Class of the recipe section with its settings."""
    serves_trained_models: ClassVar[bool] = False
    """Whether it serves the model it is given. Each round is then generated by the last round's model."""
    is_endpoint: ClassVar[bool] = True
    """Whether it answers with a model of its own and may not continue a prefill. The recipe's model is then
    not looked up for it (ModelRef.path is ""), and a vLLM engine evaluates the trained models, unless
    `evaluate.engine` says otherwise."""
    writes_text: ClassVar[bool] = True
    """Whether it answers with texts, by a json_schema where a request has one; otherwise with scores."""
    replicated: ClassVar[bool] = False
    """Whether it runs in Ray actors; `Config` is then a subclass of ReplicatedSection."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @classmethod
    def create(
        cls, config: Any, model: "ModelRef", *, replica: int = 0, trust_remote_code: bool = False
    ) -> "Engine":
        """Create an engine where it is to run. Override it if the engine loads `model` itself."""
        return cls(config)

    @classmethod
    def model_name(cls, config: Any, model: "ModelRef") -> str:
        """Return the model that answers, with its revision, for fingerprints and requests' keys."""
        return config.kind if cls.is_endpoint else model.label

    async def start(self) -> None:  # noqa: B027 - optional
        """Connect or load, on the event loop that will send the requests. Raises ConfigError, EngineDied."""

    @abstractmethod
    async def generate(self, request: Request) -> list[Completion]:
        """Return exactly `request.n` completions. Raises EngineError, EngineDied or EngineLost."""

    async def reload(self, model: str) -> None:
        """Swap in the weights in folder `model` while no request is under way. Raises EngineDied."""
        raise EngineDied("this engine cannot exchange its weights")

    def trouble(self) -> str:
        """Return what keeps requests from being answered, and until when they wait for its end; "" if nothing
        does.
        """
        return ""

    def progress(self) -> int:
        """Return a number that changes when work on its requests goes on, such as decoding steps so far.

        Requests that finish are counted elsewhere.
        """
        return 0

    async def ping(self) -> None:  # noqa: B027 - optional
        """Return as soon as what computes the answers says that it is there, whatever it is busy with."""

    def release(self, row: str) -> None:  # noqa: B027 - optional
        """Forget a row that is finished."""

    def status(self) -> EngineStatus:
        """Return how busy the engine is."""
        return EngineStatus(0, 0)

    async def close(self) -> None:  # noqa: B027 - optional
        """Release everything. Also called after a failed start."""


def engine_class(kind: str) -> type[Engine]:
    """Return the class that `engine.kind` names. Raises ConfigError if there is none or it is incomplete."""
    return registry.resolve_class("engine", kind, Engine, "Config", EngineSection)
