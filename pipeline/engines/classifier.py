"""A sequence-classification model of transformers as an engine: a completion's text is a JSON list of logits.

Reward models are such models, usually with a single logit. Requests that wait together are one forward pass.
"""

import asyncio
import os
from typing import Any, ClassVar, NamedTuple, Self

import orjson

from pipeline.config import ClassifierEngine
from pipeline.engines.base import Completion, Engine, EngineStatus, Message, Request
from pipeline.errors import ConfigError, EngineDied, EngineError
from pipeline.models import ModelRef


class _Waiting(NamedTuple):
    tokens: list[int]
    answered: "asyncio.Future[list[float]]"


class Classifier(Engine):
    """One model, on the GPU if this process sees one."""

    Config: ClassVar[type[ClassifierEngine]] = ClassifierEngine
    is_endpoint = False
    replicated = True
    writes_text = False

    def __init__(
        self, config: ClassifierEngine, model: ModelRef, *, replica: int = 0, trust_remote_code: bool = False
    ) -> None:
        super().__init__(config)
        self._model_ref, self._trust = model, trust_remote_code
        self._model: Any = None
        self._tokenizer: Any = None
        self._waiting: list[_Waiting] = []
        self._running = 0
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    @classmethod
    def create(cls, config: Any, model: ModelRef, **options: Any) -> Self:
        """Create an engine for `model`, not started yet."""
        return cls(config, model, **options)

    async def start(self) -> None:
        """Load the model. Raises ConfigError for one that does not classify sequences."""
        await asyncio.to_thread(self._load)
        self._worker = asyncio.create_task(self._work())

    async def generate(self, request: Request) -> list[Completion]:
        """Return one completion: the conversation's logits. Raises EngineError for one that is too long."""
        if not request.messages or request.n > 1 or self._model is None:
            raise EngineError("engine kind classifier judges one answer to a conversation at a time")
        tokens, limit = self._encode(request.messages), self.config.max_length
        if len(tokens) > limit:
            raise EngineError(f"{len(tokens)} tokens of question and answer; engine.max_length is {limit}")
        waiting = _Waiting(tokens, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wake.set()
        logits = await waiting.answered
        return [Completion(orjson.dumps(logits).decode(), "stop", len(tokens), 0)]

    def status(self) -> EngineStatus:
        """Return the answers in the forward pass, and those that wait for the next."""
        return EngineStatus(self._running, len(self._waiting))

    async def close(self) -> None:
        """Forget the model."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for waiting in self._waiting:
            waiting.answered.set_exception(EngineDied("the engine was closed"))
        self._waiting, self._worker, self._model = [], None, None

    def _load(self) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        path, gpu = self._model_ref.path, torch.cuda.is_available()
        if not gpu:  # Ray allows an actor without reserved cores a single thread
            cores = self.config.cpu_cores or (os.cpu_count() or 1) // self.config.replicas
            torch.set_num_threads(max(1, cores))
        trust = {"trust_remote_code": self._trust}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path, **trust)
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                path,
                dtype=torch.bfloat16 if gpu else torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **trust,
            )
        except (OSError, ValueError, RuntimeError) as e:
            raise ConfigError(f"{path} cannot be loaded for sequence classification: {e}") from None
        if missing := sorted(loading["missing_keys"]):
            raise ConfigError(
                f"{path} is no sequence-classification model: its head ({', '.join(missing)}) has no "
                "weights. Name a reward model or a classifier."
            )
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        model.config.pad_token_id = self._tokenizer.pad_token_id
        self._model = model.eval().to("cuda" if gpu else "cpu")

    def _encode(self, messages: list[Message]) -> list[int]:
        """Return a conversation's tokens: by the chat template, or question and answer as a pair of texts."""
        if self._tokenizer.chat_template:
            return self._tokenizer.apply_chat_template(messages, return_dict=False)
        question = "\n\n".join(m["content"] for m in messages[:-1])
        return self._tokenizer(question, messages[-1]["content"])["input_ids"]

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._waiting.sort(key=lambda w: len(w.tokens))  # alike lengths: little padding
            size = self.config.batch_size
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            if not self._waiting:
                self._wake.clear()
            self._running = len(batch)
            try:
                found = await asyncio.to_thread(self._logits, [w.tokens for w in batch])
            except Exception as e:  # out of memory, or what a model's own code raises: of these answers alone
                for waiting in batch:
                    waiting.answered.set_exception(EngineError(f"{type(e).__name__}: {e}"))
            else:
                for waiting, logits in zip(batch, found, strict=True):
                    if not waiting.answered.done():  # whoever asked has given up
                        waiting.answered.set_result(logits)
            self._running = 0

    def _logits(self, batch: list[list[int]]) -> list[list[float]]:
        import torch

        padded = self._tokenizer.pad({"input_ids": batch}, padding_side="right", return_tensors="pt")
        inputs = {name: padded[name].to(self._model.device) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            return self._model(**inputs).logits.float().tolist()
