"""Any OpenAI-compatible endpoint as an engine: vLLM's server, OpenAI, and what speaks like them.

Written on aiohttp and orjson because the client's CPU, not the endpoint, is what limits rows/s: the openai SDK and
httpx cost 4-10 ms of it per request.
"""

import asyncio
import os
from itertools import chain
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from yarl import URL

from pipeline.config.recipe import OpenaiEngine
from pipeline.engines.base import Completion, EngineStatus, Request, Sampling
from pipeline.engines.retry import Failure, Retrier, retry_after_seconds
from pipeline.errors import ConfigError, EngineDied, EngineError, EngineLost

SHOWN = 500  # characters of a reply that an error message shows
KEPT = 20_000  # characters of a reply that an error keeps as `raw`
# vLLM's server (uvicorn) closes a connection that was idle for 5 s: give it up before that, or a request meets the close.
IDLE_SECONDS = 4
LOOPBACK = ("localhost", "127.0.0.1", "::1")
RETRYABLE = {408, 409, 425, 429}  # and every 5xx
# No key, no credit, no such model: true of every request to come, and no row's doing. (403 is also how some refuse one prompt.)
REFUSES_ALL = {401, 402, 404}
# What a choice ends with when the server broke it off: its text is no answer.
BROKEN_OFF = (None, "abort", "error")
# Ways of ending that explain an answer without any content (all tokens went into reasoning; the answer was withheld).
MAY_BE_EMPTY = ("length", "content_filter")


class OpenAIClient:
    """Asks one endpoint, with at most `config.concurrency` requests in flight on as many kept-alive connections."""

    def __init__(self, config: OpenaiEngine) -> None:
        """Raises ConfigError when `config.base_url` cannot be used. Nothing is opened before `start`."""
        self.config = config
        base = _checked(config.base_url)
        self._urls = {
            path: (base / path).with_query(base.query) for path in ("chat/completions", "completions")
        }
        self._retrier = Retrier(config.max_retries, config.backoff)
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(config.concurrency)
        self._key = ""
        self._open = self._running = 0

    def __repr__(self) -> str:
        return f"OpenAIClient({self.config.base_url!r}, model={self.config.model!r}, {self.status()})"

    @property
    def retries(self) -> int:
        """Attempts that had to be made again so far."""
        return self._retrier.retries

    async def start(self) -> None:
        """Read the API key and open the session on the running loop. Raises ConfigError when the key is missing."""
        if self._session is not None:
            return
        self._key = _api_key(self.config.api_key_env)
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self._key}"} if self._key else {}
        )
        self._slots = asyncio.Semaphore(self.config.concurrency)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self.config.concurrency, keepalive_timeout=IDLE_SECONDS, ttl_dns_cache=300
            ),
            timeout=aiohttp.ClientTimeout(
                total=self.config.request_timeout, sock_connect=self.config.connect_timeout
            ),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(URL(self.config.base_url)),
        )

    async def generate(self, request: Request) -> list[Completion]:
        """Return `request.n` completions; their text goes on after the prefill and does not repeat it.

        An endpoint that gives fewer choices than asked for (some ignore `n`) is asked for the others, as many at a time
        as it gave at first; if they still do not come, that is an EngineError.

        Token counts are the endpoint's: `prompt_tokens` is that of the one prompt, on every completion. The endpoint counts
        completion tokens over all choices: exact for one choice, otherwise shared out by `read_reply`. Both are 0 when the
        reply has no usage. `finish_reason` is the endpoint's own word.
        """
        self._open += 1
        try:
            first = await self._ask(request, request.n, 0)
            if len(first) >= request.n:
                return first[: request.n]
            return first + await self._ask_for_rest(request, len(first))
        finally:
            self._open -= 1

    def status(self) -> EngineStatus:
        """Running: sent and not answered. Waiting: for one of the slots, or for the next attempt."""
        return EngineStatus(running=self._running, waiting=max(0, self._open - self._running))

    async def close(self) -> None:
        """Close all connections. Requests that are still under way fail; later ones raise EngineDied."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask_for_rest(self, request: Request, got: int) -> list[Completion]:
        try:
            async with asyncio.TaskGroup() as group:
                starts = range(got, request.n, got)
                asked = [
                    group.create_task(self._ask(request, min(got, request.n - start), start))
                    for start in starts
                ]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        rest = list(chain.from_iterable(task.result() for task in asked))
        if got + len(rest) < request.n:
            raise EngineError(
                f"{self.config.base_url} gave {got + len(rest)} of {request.n} samples, in {1 + len(asked)} requests. "
                "Ask it for fewer samples at once.",
                retryable=True,
            )
        return rest[: request.n - got]

    async def _ask(self, request: Request, n: int, first: int) -> list[Completion]:
        """Return the samples from number `first` on: at least one, and as many of the `n` as the endpoint gives."""
        url = self._urls["completions" if request.messages is None else "chat/completions"]
        try:
            data = orjson.dumps(build_body(request, self.config, n, first))
        except orjson.JSONEncodeError as e:
            raise EngineError(f"the request cannot be written as JSON: {e}") from e
        return await self._retrier.run(
            lambda _: self._attempt(url, data, request.sampling.logprobs is not None)
        )

    async def _attempt(self, url: URL, data: bytes, logprobs: bool) -> list[Completion] | Failure:
        async with (
            self._slots
        ):  # held for the attempt only, so that a request that backs off leaves its slot to others
            if self._session is None:
                raise EngineDied(
                    f"the client of {self.config.base_url} is closed, or was not started", retryable=True
                )
            self._running += 1
            try:
                async with self._session.post(url, data=data, allow_redirects=False) as response:
                    body = await response.read()
            except aiohttp.ConnectionTimeoutError:
                return Failure(
                    f"no connection to {self.config.base_url} within {self.config.connect_timeout:g} s"
                )
            except TimeoutError:
                return Failure(f"{_shown(url)} did not answer within {self.config.request_timeout:g} s")
            except aiohttp.ClientConnectorError as e:
                return self._unreachable(e)
            except (aiohttp.ClientError, OSError) as e:
                return Failure(self._scrub(f"connection to {_shown(url)} broke: {type(e).__name__}: {e}"))
            finally:
                self._running -= 1
        await asyncio.sleep(
            0
        )  # the slot's next request is sent before this reply is read: the endpoint must not wait for that
        return self._judge(url, response, body, logprobs)

    def _judge(
        self, url: URL, response: aiohttp.ClientResponse, body: bytes, logprobs: bool
    ) -> list[Completion] | Failure:
        if response.status != 200:
            return self._refused(url, response, body)
        try:
            completions = read_reply(body)
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raw = self._scrub(body.decode(errors="replace"))
            cause = f"no {e}" if isinstance(e, KeyError) else str(e)
            return Failure(
                f"malformed reply of {_shown(url)} (status 200), {cause}: {raw[:SHOWN]}",
                raw=raw[:KEPT],
                of_request=isinstance(e, _NoContent),
            )
        if logprobs and any(c.logprobs is None for c in completions):
            return Failure(f"{_shown(url)} sends no log-probabilities, which were asked for", retryable=False)
        return completions

    def _refused(self, url: URL, response: aiohttp.ClientResponse, body: bytes) -> Failure:
        status = response.status
        raw = self._scrub(
            body.decode(errors="replace")
        )  # as a whole: cutting first could leave a part of the key
        return Failure(
            self._scrub(f"{_shown(url)} answered {status} {response.reason}{self._advice(response)}: ")
            + raw[:SHOWN],
            retryable=status in RETRYABLE or status >= 500,
            retry_after=retry_after_seconds(response.headers.get("Retry-After")),
            raw=raw[:KEPT],
            error=EngineLost if status in REFUSES_ALL else EngineError,
        )

    def _advice(self, response: aiohttp.ClientResponse) -> str:
        if response.status in (401, 403):
            variable = self.config.api_key_env
            return (
                f" (check the API key in ${variable})"
                if variable
                else " (set api_key_env to the variable with the API key)"
            )
        if response.status == 404:
            return f" (check base_url, which mostly ends in /v1, and the model name {self.config.model!r})"
        if 300 <= response.status < 400:
            return f" (base_url should point at {response.headers.get('Location')})"
        return ""

    def _unreachable(self, error: aiohttp.ClientConnectorError) -> Failure:
        wrong_certificate = isinstance(error, aiohttp.ClientConnectorCertificateError)
        return Failure(
            self._scrub(
                f"cannot connect to {self.config.base_url}: {error}. Is the server up, and base_url right?"
            ),
            retryable=not wrong_certificate,
        )

    def _scrub(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def build_body(request: Request, config: OpenaiEngine, n: int = 1, first: int = 0) -> dict[str, Any]:
    """Return the request body for `n` samples, the first of which is sample number `first` of the request.

    temperature, top_p and max_tokens are always sent; the fields that OpenAI does not know (top_k, min_p,
    repetition_penalty) only when they differ from their defaults. (vLLM's server fills those from the model's
    generation_config unless it is started with `--generation-config vllm`.) `config.extra_body` and then `sampling.extra`
    are laid over all that; a null there takes a field away, such as `max_tokens: null, max_completion_tokens: 512`.
    """
    if (request.messages is None) == (request.prompt is None):
        raise EngineError("a request has either messages or a prompt")
    sampling, body = request.sampling, {"model": config.model}
    if request.messages is None:
        body["prompt"] = request.prompt + request.prefill
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
        # As vLLM does for n > 1; the same seed again would give the same sample again.
        body["seed"] = sampling.seed + request.sample_index + first
    if sampling.logprobs is not None:
        chat = request.messages is not None
        body |= (
            {"logprobs": True, "top_logprobs": sampling.logprobs} if chat else {"logprobs": sampling.logprobs}
        )
    if request.json_schema is not None:
        schema = {"name": "answer", "schema": request.json_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if config.extra_body or sampling.extra:
        body |= config.extra_body | sampling.extra
        body = {name: value for name, value in body.items() if value is not None}
    return body


def read_reply(body: bytes) -> list[Completion]:
    """Return the choices of a reply, at least one. Raises ValueError, KeyError, TypeError or AttributeError on any other form.

    The usage counts completion tokens over all choices. Several choices share that number in proportion to their
    log-probabilities, which is exact, or without them to their characters; the sum is exact either way.
    """
    reply = orjson.loads(body)
    choices = reply["choices"]
    if not choices:
        raise ValueError("it has no choices")
    choices = sorted(choices, key=lambda choice: choice.get("index") or 0)
    texts = [_text(choice) for choice in choices]
    logprobs = [_logprobs(choice) for choice in choices]
    usage = reply.get("usage") or {}
    weights = [
        len(text) if values is None else len(values) for text, values in zip(texts, logprobs, strict=True)
    ]
    tokens = apportion(usage.get("completion_tokens") or 0, weights)
    prompt_tokens = usage.get("prompt_tokens") or 0
    return [
        Completion(text, choice["finish_reason"], prompt_tokens, count, values)
        for text, choice, count, values in zip(texts, choices, tokens, logprobs, strict=True)
    ]


def apportion(total: int, weights: list[int]) -> list[int]:
    """Share `total` out in proportion to `weights` by largest remainders: whole numbers that sum to `total`."""
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


class _NoContent(ValueError):
    """The model has answered, and with nothing: a refusal, as a rule, and it will refuse again."""


def _text(choice: dict[str, Any]) -> str:
    finish = choice["finish_reason"]
    if finish in BROKEN_OFF:
        raise ValueError(f"a choice was broken off (finish_reason {finish!r})")
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    if text is None and finish in MAY_BE_EMPTY:
        return ""
    if not isinstance(text, str):
        raise _NoContent("a choice has no content")
    return text


def _logprobs(choice: dict[str, Any]) -> list[float] | None:
    logprobs = choice.get("logprobs")
    if logprobs is None:
        return None
    if "token_logprobs" in logprobs:  # /completions
        return logprobs["token_logprobs"]
    return [token["logprob"] for token in logprobs["content"] or ()]


def _checked(base_url: str) -> URL:
    try:
        url = URL(base_url)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"engine.base_url is {base_url!r}: expected a URL such as http://host:8000/v1.")
    return url


def _api_key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"engine.api_key_env names the environment variable {variable}, which is not set: put the API key there."
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"the environment variable {variable} holds no API key: it has characters that a header cannot carry."
        )
    return key


def _proxy(url: URL) -> str | None:
    """Return the proxy that the environment names for `url`. aiohttp could do it as well, but looks for every request."""
    if url.host in LOOPBACK or proxy_bypass(url.host):
        return None
    return getproxies().get(url.scheme)


def _shown(url: URL) -> str:
    return str(url.with_query(None))  # some endpoints take a key in the query
