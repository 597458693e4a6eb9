"""vLLM's AsyncLLM, on GPUs and on the CPU alike. Runs in a Ray actor (replica.py), but knows no Ray."""

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from jinja2 import TemplateError

from pipeline.chat.format import hidden_tokens
from pipeline.config import VllmEngine
from pipeline.engines import cpu
from pipeline.engines.base import Completion, Engine, EngineStatus, Request
from pipeline.engines.reaper import Reaper
from pipeline.errors import ConfigError, EngineDied, EngineError
from pipeline.models import ADAPTER_CONFIG, ModelRef
from pipeline.store.files import read_json

_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # the ranks that vLLM can reserve memory for


class VllmClient(Engine):
    """One engine with one model. `start` takes 17 to 50 s on 2 cores.

    The model's LoRA adapters are served together: the adapter of a request's role answers, or else the model
    itself.
    """

    Config = VllmEngine
    serves_trained_models = True
    is_endpoint = False
    replicated = True

    def __init__(
        self, config: VllmEngine, model: ModelRef, *, replica: int = 0, trust_remote_code: bool = False
    ) -> None:
        """`replica` decides which share of a CPU's cores this engine gets."""
        super().__init__(config)
        self._model, self._replica, self._trust = model, replica, trust_remote_code
        self._numbers = itertools.count()
        self._open: set[str] = set()
        self._engine: Any = None
        self._reaper: Reaper | None = None
        self._on_cpu = False
        self._hidden: re.Pattern[str] | None = None
        self._queue = EngineStatus(0, 0)
        self._steps = 0

    @classmethod
    def create(cls, config: Any, model: ModelRef, **options: Any) -> Self:
        """Create an engine for `model`, not started yet."""
        return cls(config, model, **options)

    async def start(self) -> None:
        """Start vLLM. Raises ConfigError for unknown arguments, EngineDied when it does not come up."""
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ["VLLM_DO_NOT_TRACK"] = "1"
        self._on_cpu = cpu.without_gpu()
        c, model = self.config, self._model
        args = dict(c.args)
        if self._on_cpu:
            one_process = c.tensor_parallel_size * c.pipeline_parallel_size == 1
            os.environ.update(cpu.environment(self._replica, c.replicas, c.cpu_cores, one_process))
            args = cpu.engine_args(args)
            cache = cpu.kv_bytes(model.path, args, c.replicas, c.cpu_kv_gib)
            args.setdefault("kv_cache_memory_bytes", cache)
        self._reaper = Reaper()
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        defaults = {"enable_log_requests": False, "disable_log_stats": True, **_lora_args(model.adapters)}
        try:
            engine_args = AsyncEngineArgs(
                model=model.path,
                revision=None if Path(model.path).exists() else model.revision,
                trust_remote_code=self._trust,
                tensor_parallel_size=c.tensor_parallel_size,
                pipeline_parallel_size=c.pipeline_parallel_size,
                **{**defaults, **args},
            )
        except TypeError as e:
            raise ConfigError(f"engine.args: {e} (expected fields of vLLM's AsyncEngineArgs)") from None
        try:
            self._engine = AsyncLLM.from_engine_args(engine_args, stat_loggers=[self._queue_logger()])
        except (RuntimeError, ValueError, OSError) as e:
            raise EngineDied(f"vLLM did not start with {model.path}: {type(e).__name__}: {e}") from e
        if model.chat.special:  # they come with the text, and the other special tokens are taken out here
            self._hidden = hidden_tokens(self._engine.get_tokenizer().all_special_tokens)

    async def reload(self, model: str) -> None:
        """Swap in the weights in folder `model`, in a second instead of a start.

        No request may be under way, and the models may differ in their weights only
        (pipeline.models.differ_in_weights_only). After EngineDied, the engine is of no further use.
        """
        try:
            await self._engine.collective_rpc("reload_weights", kwargs={"weights_path": model})
            emptied = await self._engine.reset_prefix_cache()  # it holds results of the old weights
        except Exception as e:  # whatever vLLM's processes raise; half-loaded weights must not answer
            raise EngineDied(f"vLLM could not load the weights of {model}: {type(e).__name__}: {e}") from e
        if not emptied:
            raise EngineDied("vLLM kept cached results of the old weights: requests were still under way")
        self._model = replace(self._model, path=model)

    async def generate(self, request: Request) -> list[Completion]:
        """Return `request.n` completions. A prompt that is too long is an EngineError for good."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        number = f"{next(self._numbers)}"
        final: Any = None
        self._open.add(number)
        try:
            async for output in self._engine.generate(
                self._prompt(request), self._params(request), number, lora_request=self._adapter(request)
            ):
                final = output
        except EngineDeadError as e:
            raise EngineDied(f"vLLM's engine ended: {e}") from e
        except (VLLMClientError, TemplateError, ValueError, TypeError) as e:
            raise EngineError(f"vLLM refused the request: {e}") from e
        finally:
            self._open.discard(number)
        outputs = sorted(final.outputs, key=lambda o: o.index) if final else []
        if len(outputs) != request.n or any(o.finish_reason is None for o in outputs):
            raise EngineError("vLLM ended the request before it was finished", retryable=True)
        prompt_tokens = len(final.prompt_token_ids or ())
        scored = self._prefill_logprobs(request, final) if final.prompt_logprobs is not None else None
        return [
            Completion(
                self._text(request, o.text),
                o.finish_reason,
                prompt_tokens,
                len(o.token_ids),
                _logprobs(o.logprobs, o.token_ids),
                scored,
            )
            for o in outputs
        ]

    def status(self) -> EngineStatus:
        """Return the last report of vLLM's scheduler, which counts sequences, not requests."""
        return self._queue if self._open else replace(self._queue, running=0, waiting=0)

    def progress(self) -> int:
        """Return the steps of vLLM's scheduler so far."""
        return self._steps

    async def ping(self) -> None:
        """Ask vLLM's EngineCore, a process of its own, which answers between two steps.

        AsyncLLM.check_health does not ask it.
        """
        if self._engine is not None:
            await self._engine.is_sleeping()

    async def close(self) -> None:
        """Shut the engine down and make sure that none of its processes is left."""
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None
        if self._reaper is not None:
            self._reaper.end()
            self._reaper = None

    def _queue_logger(self) -> Any:
        from vllm.v1.metrics.loggers import StatLoggerBase

        client = self

        class QueueLogger(StatLoggerBase):
            def __init__(self, vllm_config: Any, engine_index: int = 0) -> None: ...

            def log_engine_initialized(self) -> None: ...

            def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
                client._steps += 1
                if (now := scheduler_stats) is not None:
                    before, cache = (
                        client._queue,
                        now.prefix_cache_stats,
                    )  # the cache's counts are of one step
                    client._queue = EngineStatus(
                        now.num_running_reqs,
                        now.num_waiting_reqs,
                        before.looked_up + cache.queries,
                        before.found + cache.hits,
                    )

        return QueueLogger

    def _prompt(self, request: Request) -> Any:
        if request.messages is None:
            return (request.prompt or "") + request.prefill
        messages = list(request.messages)
        if request.prefill:
            messages.append({"role": "assistant", "content": request.prefill})
        # Token ids: vLLM would add a second BOS token to a rendered text.
        ids = self._engine.get_tokenizer().apply_chat_template(
            messages,
            add_generation_prompt=not request.prefill,
            continue_final_message=bool(request.prefill),
            return_dict=False,
            **({"chat_template": self._model.chat.template} if self._model.chat.template else {}),
        )
        return {"prompt_token_ids": ids}

    def _text(self, request: Request, text: str) -> str:
        """Return an answer's text, with the beginning of a thought that the prompt ends with."""
        if request.messages is None:
            return text
        text = self._hidden.sub("", text) if self._hidden else text
        return text if request.prefill else self._model.chat.opened + text

    def _prefill_logprobs(self, request: Request, final: Any) -> list[float]:
        """Return the log-probabilities of all tokens after the prefix shared with the prompt, as in TRL."""
        ids = list(final.prompt_token_ids)
        if request.messages is None:
            before = self._engine.get_tokenizer()(request.prompt or "")["input_ids"]
        else:
            before = self._prompt(replace(request, prefill=""))["prompt_token_ids"]
        pairs = enumerate(zip(before, ids, strict=False))
        start = max(1, next((i for i, (a, b) in pairs if a != b), min(len(before), len(ids))))
        return _logprobs(final.prompt_logprobs[start:], ids[start:]) or []

    def _adapter(self, request: Request) -> Any:
        """Return vLLM's handle of the adapter that answers; None for the model itself."""
        from vllm.lora.request import LoRARequest

        for number, (role, folder) in enumerate(self._model.adapters, 1):
            if role == request.role:
                return LoRARequest(role, number, folder)
        return None

    def _params(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        s = request.sampling
        params = s.model_dump(exclude={"extra", "seed"}) | s.extra
        params["stop"] = list(s.stop)
        chat = self._model.chat
        if chat.stop and request.messages is not None:
            params["stop_token_ids"] = [*(params.get("stop_token_ids") or ()), *chat.stop]
        if chat.special and request.messages is not None:
            params.setdefault("skip_special_tokens", False)
        # A per-request seed crashes the CPU engine ("CPU Generator does not use offset").
        if s.seed is not None and not self._on_cpu:
            params["seed"] = s.seed + request.sample_index
        if request.json_schema is not None:
            params["structured_outputs"] = StructuredOutputsParams(json=request.json_schema)
        return SamplingParams(n=request.n, output_kind=RequestOutputKind.FINAL_ONLY, **params)


def _lora_args(adapters: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the engine arguments with which all adapters can be served at once."""
    if not adapters:
        return {}
    rank = max(read_json(f"{folder}/{ADAPTER_CONFIG}")["r"] for _, folder in adapters)
    reserved = next((r for r in _LORA_RANKS if r >= rank), rank)
    return {"enable_lora": True, "max_loras": len(adapters), "max_lora_rank": reserved}


def _logprobs(positions: Any, token_ids: Any) -> list[float] | None:
    if positions is None:
        return None
    return [position[token].logprob for position, token in zip(positions, token_ids, strict=True)]
