"""Any OpenAI-compatible endpoint as an engine: OpenAI, vLLM's server, and others.

Written on aiohttp and orjson because the client's CPU, not the endpoint, limits the rows/s: the openai SDK
and httpx cost 4-10 ms of it per request.
"""

import asyncio
import os
from itertools import chain
from typing import Any, Self
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from yarl import URL

from pipeline.chat.format import PLAIN
from pipeline.config import OpenaiEngine
from pipeline.engines.base import Completion, Engine, EngineStatus, Request
from pipeline.engines.openai_format import HalfCharacter, NoContent, build_body, read_reply
from pipeline.engines.retry import Failure, Retrier, retry_after_seconds
from pipeline.errors import ConfigError, EngineDied, EngineError, EngineLost
from pipeline.ids import digest
from pipeline.models import ModelRef

SHOWN = 500  # characters of a reply that an error message shows
KEPT = 20_000  # characters of a reply that an error keeps as `raw`
# vLLM's server (uvicorn) closes connections that were idle for 5 s. A request must not run into that.
IDLE_SECONDS = 4
LOOPBACK = ("localhost", "127.0.0.1", "::1")
RETRYABLE = {408, 409, 425, 429}  # and every 5xx
AWAY = {502, 503, 504}  # of a proxy whose server is down, or of a server that is starting
# No key, no credit, no such model: every request will fail. (403 may refuse a single prompt.)
REFUSES_ALL = {401, 402, 404}


class OpenAIClient(Engine):
    """Client of one endpoint: at most `config.concurrency` requests in flight, on kept-alive connections."""

    Config = OpenaiEngine

    def __init__(self, config: OpenaiEngine, template_kwargs: dict[str, Any] | None = None) -> None:
        """Raises ConfigError when `config.base_url` is not a URL. Nothing is opened before `start`.

        `template_kwargs` are variables of the chat template, sent with every conversation.
        """
        super().__init__(config)
        self._template_kwargs = template_kwargs or {}
        base = _checked(config.base_url)
        self._urls = {
            path: (base / path).with_query(base.query) for path in ("chat/completions", "completions")
        }
        self._retrier = Retrier(config.max_retries, config.backoff, config.outage_seconds)
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(config.concurrency)
        self._key = ""
        self._open = self._running = 0

    def __repr__(self) -> str:
        return f"OpenAIClient({self.config.base_url!r}, model={self.config.model!r}, {self.status()})"

    @classmethod
    def create(cls, config: OpenaiEngine, model: ModelRef, **options: Any) -> Self:
        """Create a client. Of the recipe's model it takes the variables of the chat template alone."""
        return cls(config, orjson.loads(model.chat.kwargs))

    @classmethod
    def model_name(cls, config: OpenaiEngine, model: ModelRef) -> str:
        """The endpoint's model, whatever the recipe trains, with a digest of the template's variables."""
        kwargs = model.chat.kwargs
        return f"{config.model}@{config.base_url}" + (
            "" if kwargs == PLAIN.kwargs else f"+{digest(kwargs)[:8]}"
        )

    @property
    def retries(self) -> int:
        """Retries so far, over all requests."""
        return self._retrier.retries

    async def start(self) -> None:
        """Read the API key and open the session. Raises ConfigError when the key is missing."""
        if self._session is not None:
            return
        c, headers = self.config, {"Content-Type": "application/json"}
        self._key = api_key(c.api_key_env)
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._slots = asyncio.Semaphore(c.concurrency)  # belongs to the running loop
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=c.concurrency, keepalive_timeout=IDLE_SECONDS, ttl_dns_cache=300
            ),
            timeout=aiohttp.ClientTimeout(total=c.request_timeout, sock_connect=c.connect_timeout),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(URL(c.base_url)),
        )

    async def generate(self, request: Request) -> list[Completion]:
        """Return `request.n` completions; their text continues the prefill and does not repeat it.

        If the endpoint gives fewer choices than requested (some ignore `n`), the rest is requested too, in
        portions of the size it gave first; EngineError if they still do not come. `prompt_tokens` is that of
        the one prompt, on every completion. The endpoint counts completion tokens over all choices: see
        `read_reply`. Both are 0 without usage in the reply. `finish_reason` is the endpoint's own word.
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
        """Running requests are sent and unanswered; waiting ones need a slot, or are between two attempts."""
        return EngineStatus(running=self._running, waiting=max(0, self._open - self._running))

    def trouble(self) -> str:
        """Say that the endpoint is away, and until when it is waited for."""
        return self._retrier.trouble()

    async def close(self) -> None:
        """Close all connections. Requests under way fail, later ones raise EngineDied."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask_for_rest(self, request: Request, got: int) -> list[Completion]:
        try:
            async with asyncio.TaskGroup() as group:
                asked = [
                    group.create_task(self._ask(request, min(got, request.n - start), start))
                    for start in range(got, request.n, got)
                ]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        rest = list(chain.from_iterable(task.result() for task in asked))
        if (given := got + len(rest)) < request.n:
            raise EngineError(
                f"{self.config.base_url} gave {given} of {request.n} samples, in {1 + len(asked)} requests. "
                "Ask it for fewer samples at once.",
                retryable=True,
            )
        return rest[: request.n - got]

    async def _ask(self, request: Request, n: int, first: int) -> list[Completion]:
        """Return the samples from number `first` on: at least one, at most `n`, as the endpoint likes."""
        url, body = self._call(request, n, first)
        try:
            data = orjson.dumps(body)
        except orjson.JSONEncodeError as e:
            raise EngineError(f"the request cannot be written as JSON: {e}") from e
        logprobs = request.sampling.logprobs is not None
        return await self._retrier.run(lambda _: self._attempt(url, data, logprobs))

    def _call(self, request: Request, n: int, first: int) -> tuple[URL, dict[str, Any]]:
        """Return where a request goes, and its body."""
        url = self._urls["completions" if request.messages is None else "chat/completions"]
        return url, build_body(request, self.config, n, first, self._template_kwargs)

    def _completions(self, body: bytes) -> list[Completion]:
        """Return what a reply says. Raises as `read_reply` does."""
        return read_reply(body)

    async def _attempt(self, url: URL, data: bytes, logprobs: bool) -> list[Completion] | Failure:
        config = self.config
        async with self._slots:  # per attempt: a request that backs off leaves its slot to others
            if self._session is None:
                raise EngineDied(
                    f"the client of {config.base_url} is closed, or was not started", retryable=True
                )
            self._running += 1
            try:
                async with self._session.post(url, data=data, allow_redirects=False) as response:
                    body = await response.read()
            except aiohttp.ConnectionTimeoutError:
                problem = f"no connection to {config.base_url} within {config.connect_timeout:g} s"
                return Failure(problem, there=False)
            except TimeoutError:
                return Failure(f"{_shown(url)} did not answer within {config.request_timeout:g} s")
            except aiohttp.ClientConnectorError as e:
                problem = f"cannot connect to {config.base_url}: {e}. Is the server up, and base_url right?"
                wrong_certificate = isinstance(e, aiohttp.ClientConnectorCertificateError)
                return Failure(self._scrub(problem), retryable=not wrong_certificate, there=wrong_certificate)
            except (aiohttp.ClientError, OSError) as e:
                return Failure(self._scrub(f"connection to {_shown(url)} broke: {type(e).__name__}: {e}"))
            finally:
                self._running -= 1
        await asyncio.sleep(0)  # let the slot's next request go out before this reply is parsed
        return self._read(url, response, body, logprobs)

    def _read(
        self, url: URL, response: aiohttp.ClientResponse, body: bytes, logprobs: bool
    ) -> list[Completion] | Failure:
        if response.status != 200:
            return self._refusal(url, response, body)
        try:
            completions = self._completions(body)
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raw = self._scrub(body.decode(errors="replace"))
            cause = f"no {e}" if isinstance(e, KeyError) else str(e)
            return Failure(
                f"malformed reply of {_shown(url)} (status 200), {cause}: {raw[:SHOWN]}",
                raw=raw[:KEPT],
                retryable=not isinstance(e, HalfCharacter),
                of_request=isinstance(e, NoContent),
                there=True,
            )
        if logprobs and any(c.logprobs is None for c in completions):
            problem = f"{_shown(url)} sends no log-probabilities, which the request needs"
            return Failure(problem, retryable=False)
        return completions

    def _refusal(self, url: URL, response: aiohttp.ClientResponse, body: bytes) -> Failure:
        status = response.status
        # Scrub before cutting: cutting first could leave a part of the key.
        raw = self._scrub(body.decode(errors="replace"))
        answer = self._scrub(f"{_shown(url)} answered {status} {response.reason}{self._advice(response)}: ")
        return Failure(
            answer + raw[:SHOWN],
            retryable=status in RETRYABLE or status >= 500,
            there=status not in AWAY,
            retry_after=retry_after_seconds(response.headers.get("Retry-After")),
            raw=raw[:KEPT],
            error=EngineLost if status in REFUSES_ALL else EngineError,
        )

    def _advice(self, response: aiohttp.ClientResponse) -> str:
        variable = self.config.api_key_env
        if response.status in (401, 403):
            setting = (
                f"check the API key in ${variable}" if variable else "set api_key_env to the key's variable"
            )
            return f" ({setting})"
        if response.status == 404:
            return f" (check base_url, which usually ends in /v1, and the model name {self.config.model!r})"
        if 300 <= response.status < 400:
            return f" (base_url should point at {response.headers.get('Location')})"
        return ""

    def _scrub(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _checked(base_url: str) -> URL:
    try:
        url = URL(base_url)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"engine.base_url is {base_url!r}: expected a URL such as http://host:8000/v1.")
    return url


def api_key(variable: str | None) -> str:
    """Return the API key in an environment variable, "" for none. Raises ConfigError if it is not set."""
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"engine.api_key_env: the environment variable {variable} is not set; export the API key as it."
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"the environment variable {variable} holds no API key: a header cannot carry its characters."
        )
    return key


def _proxy(url: URL) -> str | None:
    """Return the proxy that the environment names for `url`. aiohttp would look it up for every request."""
    if url.host in LOOPBACK or proxy_bypass(url.host or ""):
        return None
    return getproxies().get(url.scheme)


def _shown(url: URL) -> str:
    return str(url.with_query(None))  # some endpoints take a key in the query
