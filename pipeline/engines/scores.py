"""An endpoint that scores answers, as an engine: a completion's text is a JSON list of scores.

Its own protocol is as small as can be: POST base_url with {"model": ..., "messages": [...]}, the last of
which is the answer; the reply is {"score": 0.7}, or {"scores": [0.1, 0.9]} with one per class. vLLM's server
speaks two others (`api`).
"""

from typing import Any, ClassVar

import orjson
from yarl import URL

from pipeline.config import ScoresEngine
from pipeline.engines.base import Completion, Request
from pipeline.engines.openai import OpenAIClient
from pipeline.errors import EngineError


class ScoresClient(OpenAIClient):
    """Client of one endpoint, with the retries and limits of any other."""

    Config: ClassVar[type[ScoresEngine]] = ScoresEngine
    config: ScoresEngine
    writes_text = False

    def _call(self, request: Request, n: int, first: int) -> tuple[URL, dict[str, Any]]:
        messages = request.messages
        if not messages or n > 1:
            raise EngineError(f"engine kind scores judges one answer to a conversation; got n = {n}")
        base, c = URL(self.config.base_url), self.config
        body: dict[str, Any] = {"model": c.model}
        if c.api == "score":
            question = "\n\n".join(m["content"] for m in messages[:-1])
            body |= {"queries": question, "documents": messages[-1]["content"]}
        else:
            body["messages"] = messages
        if c.api == "classify":
            body |= {"add_generation_prompt": False, "use_activation": False}
        url = base if c.api == "json" else (base / c.api).with_query(base.query)
        return url, {name: v for name, v in (body | c.extra_body).items() if v is not None}

    def _completions(self, body: bytes) -> list[Completion]:
        reply = orjson.loads(body)
        usage = reply.get("usage") or {}
        if self.config.api == "json":
            scores = reply["scores"] if "scores" in reply else [reply["score"]]
        else:
            [found] = reply["data"]
            scores = found["probs"] if self.config.api == "classify" else [found["score"]]
        if not scores or not all(isinstance(s, int | float) and not isinstance(s, bool) for s in scores):
            raise ValueError(f"expected numbers as scores, got {scores!r:.100}")
        text = orjson.dumps([float(score) for score in scores]).decode()
        return [Completion(text, "stop", usage.get("prompt_tokens") or 0, 0)]
