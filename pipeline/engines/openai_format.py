"""The OpenAI API's requests and replies, as JSON."""

from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.config import OpenaiEngine
from pipeline.engines.base import Completion, Request, Sampling
from pipeline.errors import EngineError

BROKEN_OFF = (None, "abort", "error")  # finish reasons of a choice that the server did not complete
# Finish reasons of an answer without content: all tokens went into reasoning, or the answer was withheld.
MAY_BE_EMPTY = ("length", "content_filter")


class NoContent(ValueError):
    """The model answered with nothing: usually a refusal, and it will refuse again."""


class HalfCharacter(ValueError):
    """The reply holds half of a surrogate pair: text that neither UTF-8 nor Arrow can store."""


def build_body(
    request: Request,
    config: OpenaiEngine,
    n: int = 1,
    first: int = 0,
    template_kwargs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the request body for `n` samples, of which the first is number `first` of the request.

    temperature, top_p and max_tokens are always sent; the fields that OpenAI does not know (top_k, min_p,
    repetition_penalty) only if they differ from their defaults. (vLLM's server fills in the model's
    generation_config for those, unless it is started with `--generation-config vllm`.) `template_kwargs` are
    sent as chat_template_kwargs, if there are any. `config.extra_body`
    and then `sampling.extra` override all of that; null removes a field: `max_tokens: null,
    max_completion_tokens: 512`.
    """
    if (request.messages is None) == (request.prompt is None):
        raise EngineError("a request needs either messages or a prompt")
    sampling = request.sampling
    body: dict[str, Any] = {"model": config.model}
    if request.messages is None:
        body["prompt"] = (request.prompt or "") + request.prefill
    elif request.prefill:
        body["messages"] = [*request.messages, {"role": "assistant", "content": request.prefill}]
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    else:
        body["messages"] = request.messages
    body |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens}
    for name in ("top_k", "min_p", "repetition_penalty"):
        if (value := getattr(sampling, name)) != Sampling.model_fields[name].default:
            body[name] = value
    if n > 1:
        body["n"] = n
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.seed is not None:
        # As vLLM does for n > 1: the same seed would give the same sample.
        body["seed"] = sampling.seed + request.sample_index + first
    if sampling.logprobs is not None and request.messages is None:
        body["logprobs"] = sampling.logprobs
    elif sampling.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    if request.json_schema is not None:
        schema = {"name": "answer", "schema": request.json_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if template_kwargs and request.messages is not None:
        body["chat_template_kwargs"] = dict(template_kwargs)
    if config.extra_body or sampling.extra:
        body |= config.extra_body | sampling.extra
        body = {name: value for name, value in body.items() if value is not None}
    return body


def read_reply(body: bytes) -> list[Completion]:
    """Return a reply's choices, at least one.

    The usage counts completion tokens over all choices. They are apportioned by number of log-probabilities,
    which is exact, or else by characters; the sum is exact either way. Raises NoContent for a refusal,
    HalfCharacter for text that cannot be stored, and ValueError, KeyError, TypeError or AttributeError for
    any other form.
    """
    reply = _loads(body)
    choices = reply["choices"]
    if not choices:
        raise ValueError("it has no choices")
    choices = sorted(choices, key=lambda choice: choice.get("index") or 0)
    texts, thoughts = [_text(choice) for choice in choices], [_thought(choice) for choice in choices]
    logprobs = [_logprobs(choice) for choice in choices]
    usage = reply.get("usage") or {}
    written = [len(text) + len(thought or "") for text, thought in zip(texts, thoughts, strict=True)]
    weights = [w if values is None else len(values) for w, values in zip(written, logprobs, strict=True)]
    tokens = apportion(usage.get("completion_tokens") or 0, weights)
    prompt_tokens = usage.get("prompt_tokens") or 0
    return [
        Completion(text, choice["finish_reason"], prompt_tokens, count, values, thought=thought)
        for text, choice, count, values, thought in zip(
            texts, choices, tokens, logprobs, thoughts, strict=True
        )
    ]


def apportion(total: int, weights: list[int]) -> list[int]:
    """Divide `total` into whole numbers in proportion to `weights`, by largest remainders."""
    if len(weights) == 1:
        return [total]
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    shares = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: -(total * weights[i] % whole))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def _text(choice: dict[str, Any]) -> str:
    finish = choice["finish_reason"]
    if finish in BROKEN_OFF:
        raise ValueError(f"a choice was broken off (finish_reason {finish!r})")
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    if isinstance(text, list) and text:  # parts, of which some are texts
        text = "".join(part["text"] for part in text if isinstance(part.get("text"), str))
    if text is None and finish in MAY_BE_EMPTY:
        return ""
    if not isinstance(text, str):
        raise NoContent("a choice has no content")
    return text


def _thought(choice: dict[str, Any]) -> str | None:
    """Return what the model thought, where the endpoint sends that apart."""
    message = choice.get("message") or {}
    found = (message.get(name) for name in ("reasoning_content", "reasoning"))
    return next((text for text in found if isinstance(text, str) and text.strip()), None)


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as e:
        if "surrogate" in str(e):
            raise HalfCharacter(f"half of a surrogate pair: {e}") from None
        raise


def _logprobs(choice: dict[str, Any]) -> list[float] | None:
    logprobs = choice.get("logprobs")
    if logprobs is None:
        return None
    if "token_logprobs" in logprobs:  # /completions
        return logprobs["token_logprobs"]
    return [token["logprob"] for token in logprobs["content"] or ()]
