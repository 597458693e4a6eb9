"""vLLM's AsyncLLM, on GPUs and on the CPU alike. Runs inside a Ray actor (see pool.py); nothing here knows Ray."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.config import VllmEngine
from pipeline.engines import cpu
from pipeline.engines.base import Completion, EngineStatus, Request
from pipeline.engines.reaper import Reaper
from pipeline.errors import ConfigError, EngineDied, EngineError
from pipeline.models import ADAPTER_CONFIG
from pipeline.store.files import read_json

_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM makes room for


class VllmClient:
    """One engine with one model. `start` takes 17 to 50 s on 2 cores."""

    def __init__(
        self,
        config: VllmEngine,
        model: str,
        *,
        replica: int = 0,
        trust_remote_code: bool = False,
        revision: str | None = None,
        adapters: Sequence[tuple[str, str]] = (),
    ) -> None:
        """`model` is a folder or a Hub id; `replica` tells which share of a CPU's cores is this engine's.

        `adapters` are LoRA adapters (role, folder), served together: a request is answered by the one of its role, else by the model.
        """
        self._adapters = tuple(adapters)
        self._config, self._model, self._replica = config, model, replica
        self._trust, self._revision = trust_remote_code, revision
        self._numbers = itertools.count()
        self._open: set[str] = set()
        self._engine: Any = None
        self._reaper: Reaper | None = None
        self._on_cpu = False
        self._queue = EngineStatus(0, 0)

    async def start(self) -> None:
        """Start the engine. Raises ConfigError when its arguments are not vLLM's, EngineDied when it does not come up."""
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ["VLLM_DO_NOT_TRACK"] = "1"
        self._on_cpu = cpu.without_gpu()
        c = self._config
        args = dict(c.args)
        if self._on_cpu:
            one_process = c.tensor_parallel_size * c.pipeline_parallel_size == 1
            os.environ.update(cpu.environment(self._replica, c.replicas, c.cpu_cores, one_process))
            args = cpu.engine_args(args)
            args.setdefault(
                "kv_cache_memory_bytes", cpu.kv_bytes(self._model, args, c.replicas, c.cpu_kv_gib)
            )
        self._reaper = Reaper()
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            engine_args = AsyncEngineArgs(
                model=self._model,
                revision=self._revision,
                trust_remote_code=self._trust,
                tensor_parallel_size=c.tensor_parallel_size,
                pipeline_parallel_size=c.pipeline_parallel_size,
                **{
                    "enable_log_requests": False,
                    "disable_log_stats": True,
                    **_lora_args(self._adapters),
                    **args,
                },
            )
        except TypeError as e:
            raise ConfigError(f"engine.args: {e} (expected fields of vLLM's AsyncEngineArgs)") from None
        try:
            self._engine = AsyncLLM.from_engine_args(engine_args, stat_loggers=[self._queue_logger()])
        except (RuntimeError, ValueError, OSError) as e:
            raise EngineDied(f"vLLM did not start with {self._model}: {type(e).__name__}: {e}") from e

    async def reload(self, model: str) -> None:
        """Serve the weights in folder `model` from now on, in a second instead of a start. No request may be under way.

        The model has to differ in its weights only (pipeline.models.differ_in_weights_only). Raises EngineDied when vLLM cannot do it; the engine
        is then of no more use.
        """
        try:
            await self._engine.collective_rpc("reload_weights", kwargs={"weights_path": model})
            emptied = await self._engine.reset_prefix_cache()  # what the old weights computed
        except Exception as e:  # whatever vLLM's processes raise; half-loaded weights must not answer
            raise EngineDied(
                f"vLLM could not exchange its weights for those of {model}: {type(e).__name__}: {e}"
            ) from e
        if not emptied:
            raise EngineDied(
                "vLLM kept what it had computed with the old weights: requests were still under way"
            )
        self._model = model

    async def generate(self, request: Request) -> list[Completion]:
        """Return `request.n` completions. A prompt that does not fit is an EngineError that retrying cannot help."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        number = f"{next(self._numbers)}"
        self._open.add(number)
        try:
            final = None
            async for output in self._engine.generate(
                self._prompt(request), self._params(request), number, lora_request=self._adapter(request)
            ):
                final = output
        except EngineDeadError as e:
            raise EngineDied(f"vLLM's engine ended: {e}") from e
        except (VLLMClientError, ValueError, TypeError) as e:
            raise EngineError(f"vLLM refused the request: {e}") from e
        finally:
            self._open.discard(number)
        if (
            final is None
            or len(final.outputs) != request.n
            or any(o.finish_reason is None for o in final.outputs)
        ):
            raise EngineError("vLLM ended the request before it was finished", retryable=True)
        prompt_tokens = len(final.prompt_token_ids or ())
        scored = self._prefill_logprobs(request, final) if final.prompt_logprobs is not None else None
        return [
            Completion(
                o.text,
                o.finish_reason,
                prompt_tokens,
                len(o.token_ids),
                _logprobs(o.logprobs, o.token_ids),
                scored,
            )
            for o in sorted(final.outputs, key=lambda o: o.index)
        ]

    def status(self) -> EngineStatus:
        """Return what vLLM's scheduler last said of its queue: sequences, so that a request for n samples counts n times."""
        return self._queue if self._open else replace(self._queue, running=0, waiting=0)

    async def close(self) -> None:
        """Shut the engine down and see to it that none of its processes is left."""
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
                if (now := scheduler_stats) is not None:
                    before, cache = (
                        client._queue,
                        now.prefix_cache_stats,
                    )  # the cache's numbers are of one step each
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
        ids = self._engine.get_tokenizer().apply_chat_template(
            messages,
            add_generation_prompt=not request.prefill,
            continue_final_message=bool(request.prefill),
            return_dict=False,
        )
        return {"prompt_token_ids": ids}

    def _prefill_logprobs(self, request: Request, final: Any) -> list[float]:
        """Return the log-probabilities of what the prefill adds to the prompt: from where the tokens of both part (as in TRL) to the end."""
        ids = list(final.prompt_token_ids)
        if request.messages is None:
            before = self._engine.get_tokenizer()(request.prompt or "")["input_ids"]
        else:
            before = self._prompt(replace(request, prefill=""))["prompt_token_ids"]
        start = next(
            (i for i, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b),
            min(len(before), len(ids)),
        )
        return _logprobs(final.prompt_logprobs[max(1, start) :], ids[max(1, start) :]) or []

    def _adapter(self, request: Request) -> Any:
        """Return vLLM's name for the adapter that answers, None for the model itself."""
        from vllm.lora.request import LoRARequest

        for number, (role, folder) in enumerate(self._adapters, 1):
            if role == request.role:
                return LoRARequest(role, number, folder)
        return None

    def _params(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        s = request.sampling
        given = s.model_dump(exclude={"extra", "seed"}) | s.extra
        given["stop"] = list(s.stop)
        # A per-request seed kills the CPU engine ("CPU Generator does not use offset").
        if s.seed is not None and not self._on_cpu:
            given["seed"] = s.seed + request.sample_index
        if request.json_schema is not None:
            given["structured_outputs"] = StructuredOutputsParams(json=request.json_schema)
        return SamplingParams(n=request.n, output_kind=RequestOutputKind.FINAL_ONLY, **given)


def _lora_args(adapters: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the engine arguments that all of the adapters need to be served at once."""
    if not adapters:
        return {}
    rank = max(read_json(f"{folder}/{ADAPTER_CONFIG}")["r"] for _, folder in adapters)
    return {
        "enable_lora": True,
        "max_loras": len(adapters),
        "max_lora_rank": next((r for r in _LORA_RANKS if r >= rank), rank),
    }


def _logprobs(found: Any, token_ids: Any) -> list[float] | None:
    if found is None:
        return None
    return [position[token].logprob for position, token in zip(found, token_ids, strict=True)]
