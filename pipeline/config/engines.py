"""Sections of the built-in engines, and the type of a setting that takes any engine."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from pipeline.engines.base import EngineSection, ReplicatedSection, engine_class
from pipeline.errors import ConfigError

_SECRET = re.compile("key|token|secret|sig|auth|pass|code|cred", re.IGNORECASE)  # name of a query parameter


class VllmEngine(ReplicatedSection):
    """vLLM's AsyncLLM in Ray actors, on GPUs or the CPU."""

    may_change = (
        *ReplicatedSection.may_change,
        *("tensor_parallel_size", "pipeline_parallel_size", "cpu_kv_gib"),
        *("args.max_num_seqs", "args.max_num_batched_tokens", "args.gpu_memory_utilization"),
    )
    kind: Literal["vllm"] = "vllm"
    tensor_parallel_size: PositiveInt = 1
    pipeline_parallel_size: PositiveInt = 1
    cpu_kv_gib: PositiveFloat | None = None
    """KV cache of one CPU replica in GiB. Default: twice what `max_num_seqs` sequences of `max_model_len`
    tokens take, within a quarter of the free memory."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Any field of vLLM's AsyncEngineArgs."""

    @model_validator(mode="before")
    @classmethod
    def _drop_max_retries(cls, data: Any) -> Any:
        # Every engine used to have this setting, so old run.yaml files spell it out. vLLM never read it.
        return {k: v for k, v in data.items() if k != "max_retries"} if isinstance(data, dict) else data

    def gpus_needed(self) -> float:
        """One GPU per rank."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


class OpenaiEngine(EngineSection):
    """Any OpenAI-compatible endpoint."""

    may_change = (
        *("api_key_env", "request_timeout", "max_retries", "backoff", "concurrency", "connect_timeout"),
        "outage_seconds",
    )
    kind: Literal["openai"]
    base_url: str
    """Such as http://host:8000/v1."""
    model: str
    """The model's name at the endpoint."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the API key. The key itself is never stored."""
    request_timeout: PositiveFloat = 600
    """Seconds per attempt of a request; retries are not counted."""
    max_retries: NonNegativeInt = 5
    """Retries of a request after a retryable error (429, 5xx, timeout, broken connection)."""
    backoff: NonNegativeFloat = 0.5
    """Longest wait in seconds before the first retry; doubles with each retry, up to 60."""
    outage_seconds: NonNegativeFloat = 1800
    """Seconds to wait for an endpoint that has answered in this stage and has gone away (no connection, 502,
    503, 504). Its requests are tried again until then, beyond `max_retries`."""
    concurrency: PositiveInt = 64
    """Requests in flight per stage worker."""
    connect_timeout: PositiveFloat = 10
    """Seconds to establish a connection."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of every request's body."""

    @model_validator(mode="after")
    def _no_credentials(self) -> "OpenaiEngine":
        if "@" in self.base_url.partition("://")[2].partition("/")[0]:  # the message must not repeat them
            raise ValueError(
                "base_url holds credentials, which would be stored with the run: remove them, use api_key_env"
            )
        query = parse_qsl(self.base_url.partition("?")[2], keep_blank_values=True)
        if secret := next((name for name, _ in query if _SECRET.search(name)), None):
            raise ValueError(
                f"base_url has {secret!r} in its query, which would be stored with the run: remove it, "
                "use api_key_env (sent as a bearer token)"
            )
        return self


class ScoresEngine(OpenaiEngine):
    """An endpoint that scores answers, for verifiers of kind reward_model."""

    kind: Literal["scores"]  # type: ignore[assignment]
    api: Literal["json", "classify", "score"] = "json"
    """json: POST base_url with {model, messages}, which answers {"score": 0.7}. classify, score: vLLM's
    server with a sequence-classification model or a reranker (base_url without /v1)."""


class ClassifierEngine(ReplicatedSection):
    """A sequence-classification model of transformers in Ray actors, for verifiers of kind reward_model."""

    may_change = (*ReplicatedSection.may_change, "batch_size")
    kind: Literal["classifier"] = "classifier"
    batch_size: PositiveInt = 16
    """Answers per forward pass."""
    max_length: PositiveInt = 2048
    """Tokens of question and answer together; longer ones fail."""


class ScriptedEngine(EngineSection):
    """Deterministic answers without a model: for tests, fault tests and overhead benchmarks."""

    may_change = ("latency", "jitter", "fail_share", "reject_share", "max_retries", "kill_on")
    kind: Literal["scripted"]
    answers: str = "hash"
    """`hash`, or `module:function` that maps (request, sample index) to text."""
    latency: NonNegativeFloat = 0.0
    """Seconds per request."""
    jitter: NonNegativeFloat = 0.0
    """Share of the latency that varies, by request hash."""
    fail_share: float = Field(0.0, ge=0, le=1)
    """Share of requests whose first attempt fails with a retryable error."""
    reject_share: float = Field(0.0, ge=0, le=1)
    """Share of requests that are refused for good."""
    max_retries: NonNegativeInt = 5
    """Retries of a request after a retryable error."""
    kill_on: str | None = None
    """A request whose text contains this kills the process it runs in."""
    tokens: NonNegativeInt = 16
    """Completion tokens to report per answer; 0 reports its words."""

    def identity(self) -> dict[str, Any]:
        """The function that answers; `tokens` never was part of fingerprints."""
        return self.model_dump(mode="json", include={"kind", "answers"})


def section_class(data: dict[str, Any]) -> type[EngineSection]:
    """Return the class of the engine section in `data`, vllm's by default. Raises ConfigError."""
    return engine_class(str(data.get("kind", "vllm"))).Config


def _read(value: Any) -> Any:
    if isinstance(value, EngineSection):
        return value
    if not isinstance(value, dict):
        raise ValueError("expected a section such as {kind: vllm}")
    try:
        section = section_class(value)
    except ConfigError as e:
        problem = PydanticCustomError("engine_kind", "{problem}", {"problem": str(e)})
        details = InitErrorDetails(type=problem, loc=("kind",), input=value)
        raise ValidationError.from_exception_data("engine", [details]) from None
    return section.model_validate(value)


def _without_replicas(section: EngineSection) -> EngineSection:
    if section.implementation.replicated:
        raise ValueError(
            f"kind {section.kind} needs replicas of its own; expected an endpoint, such as kind openai"
        )
    return section


AnyEngine = Annotated[SerializeAsAny[EngineSection], BeforeValidator(_read)]
WorkerEngine = Annotated[AnyEngine, AfterValidator(_without_replicas)]
"""An engine that lives in the stage workers, for a stage that asks another model than the round's
generator."""
