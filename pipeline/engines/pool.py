"""Engines as stages use them: vLLM replicas in Ray actors that outlive a stage, or a client in the stage worker itself."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)

from pipeline.config import OpenaiEngine, Recipe, ScriptedEngine, VllmEngine
from pipeline.engines import cpu
from pipeline.engines.base import Completion, Engine, EngineStatus, Request
from pipeline.errors import EngineDied, EngineError, EngineLost, SelfloopError
from pipeline.models import ModelRef, differ_in_weights_only

NAMESPACE = "selfloop"
CLOSE_SECONDS = 30.0
STATUS_SECONDS = 5.0
IN_USE_SECONDS = (
    60.0  # requests for another model are waited for so long before they are taken for another job's
)


class VllmReplica:
    """The Ray actor around one engine. `load` replaces its model, so that warm replicas serve round after round."""

    def __init__(self, config: VllmEngine, replica: int, log: str | None) -> None:
        if log:  # vLLM's processes inherit the descriptors: all they print is in the run directory
            os.makedirs(os.path.dirname(log), exist_ok=True)
            fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(fd, stream.fileno())
        self._config, self._replica = config, replica
        self._engine: Engine | None = None
        self._model: ModelRef | None = None
        self._loading = asyncio.Lock()
        self._running = 0  # requests

    async def load(
        self, model: ModelRef | None, trust_remote_code: bool = False, force: bool = False
    ) -> None:
        """Serve `model` from now on; None only frees the memory.

        Requests under way for another model, which another job may have attached for, are waited for; EngineError when they take long. `force`
        ends them.
        """
        from pipeline.engines.vllm import VllmClient

        async with self._loading:
            if model == self._model and self._engine is not None:
                return
            if not force:
                await self._unused()
            if await self._reloaded(model):
                return
            if self._engine is not None:
                await self._engine.close()
                self._engine = self._model = None
            if model is not None:
                revision = None if os.path.exists(model.path) else model.revision
                engine = VllmClient(
                    self._config,
                    model.path,
                    replica=self._replica,
                    trust_remote_code=trust_remote_code,
                    revision=revision,
                    adapters=model.adapters,
                )
                try:
                    await engine.start()
                except Exception:
                    await engine.close()
                    raise
                self._engine, self._model = engine, model

    async def _unused(self) -> None:
        end = time.monotonic() + IN_USE_SECONDS
        while self._running and self._model is not None:
            if time.monotonic() > end:
                raise EngineError(
                    f"the engine answers {self._running} requests with {self._model.name}: another job uses it (selfloop serve --status). "
                    "Wait for that job, or start a pool of your own."
                )
            await asyncio.sleep(0.2)

    async def _reloaded(self, model: ModelRef | None) -> bool:
        """Give a running engine other weights, where the models differ in nothing else. Returns whether that was done."""
        if (
            self._engine is None
            or model is None
            or self._model is None
            or model.adapters
            or self._model.adapters
        ):
            return False  # adapters are given to an engine when it starts
        if not differ_in_weights_only(self._model.path, model.path):
            return False
        self._model = None
        try:
            await self._engine.reload(model.path)
        except EngineDied as e:
            print(f"{e}; starting a fresh engine", file=sys.stderr, flush=True)
            return False
        self._model = model
        return True

    async def generate(self, request: Request, model: ModelRef) -> list[Completion]:
        """Pass a request on that `model` is to answer. After an EngineDied the caller is expected to `load` again."""
        if self._engine is None or self._model is None:
            raise EngineDied("the replica has no model loaded (it was restarted)")
        if self._model != model:
            raise EngineLost(
                f"the engine now serves {self._model.name}, not {model.name}: another job has attached to the same pool"
            )
        self._running += 1
        try:
            return await self._engine.generate(request)
        except EngineDied:
            self._model = None  # so that the next `load` starts a fresh engine
            raise
        finally:
            self._running -= 1

    async def status(self) -> tuple[ModelRef | None, EngineStatus]:
        """Return what is served and how busy it is."""
        return self._model, self._engine.status() if self._engine else EngineStatus(0, 0)

    async def close(self) -> None:
        """End the engine and its processes."""
        await self.load(None, force=True)


@dataclass(frozen=True)
class EngineHandle:
    """What a stage worker needs to reach the engine. Travels between Ray processes."""

    config: VllmEngine | OpenaiEngine | ScriptedEngine
    model: ModelRef
    replicas: list[Any] = field(default_factory=list)
    trust_remote_code: bool = False

    @property
    def model_name(self) -> str:
        """Return "name@revision" of what answers: the endpoint's model for `openai`."""
        if isinstance(self.config, OpenaiEngine):
            return f"{self.config.model}@{self.config.base_url}"
        return f"{self.model.name}@{self.model.revision[:12]}"

    async def queue(self) -> EngineStatus | None:
        """Return how busy the replicas are and what their prefix caches found, all together; None for an engine that lives in the stage workers, or when one does not say."""
        if not self.replicas:
            return None
        asked = [asyncio.ensure_future(_unwrap(r.status.remote())) for r in self.replicas]
        for answer in (
            asked
        ):  # who asked may be cancelled meanwhile, and asyncio complains of an error that nobody looks at
            answer.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
        _, late = await asyncio.wait(asked, timeout=STATUS_SECONDS)
        for answer in late:
            answer.cancel()
        if late:
            return None
        try:
            found = [answer.result() for answer in asked]
        except EngineError:
            return None
        counts = ((s.running, s.waiting, s.looked_up, s.found) for _, s in found)
        return EngineStatus(*map(sum, zip(*counts, strict=True)))

    def connect(self) -> Engine:
        """Return a client for use in this process. It still has to be started."""
        if isinstance(self.config, VllmEngine):
            return ReplicaRouter(self)
        if isinstance(self.config, OpenaiEngine):
            from pipeline.engines.openai import OpenAIClient

            return OpenAIClient(self.config)
        from pipeline.engines.scripted import ScriptedClient

        return ScriptedClient(self.config)


class ReplicaRouter:
    """Sends requests to replicas: a row's first to the least busy one, its next ones to the same (prefix cache).

    A request whose engine dies is sent again to the restarted engine. From its second death on it is sent alone, so that a
    request that kills engines is found and the others, which were merely in flight with it, are not held guilty.
    """

    DEATHS = 3

    def __init__(self, handle: EngineHandle) -> None:
        self._handle = handle
        self._busy = [0] * len(handle.replicas)
        self._home: dict[str, int] = {}
        self._healing = [asyncio.Lock() for _ in handle.replicas]
        self._alone = asyncio.Lock()
        self._nobody_alone = asyncio.Event()
        self._nobody_alone.set()

    async def start(self) -> None:
        """Nothing to start: the replicas are up."""

    async def generate(self, request: Request) -> list[Completion]:
        """Return the completions. EngineDied is raised only for a request that was in flight at DEATHS engine deaths."""
        for death in range(self.DEATHS):
            try:
                if death < 2:
                    await self._nobody_alone.wait()
                    return await self._send(request)
                async with self._alone:
                    self._nobody_alone.clear()
                    try:
                        while any(self._busy):
                            await asyncio.sleep(0.05)
                        return await self._send(request)
                    finally:
                        self._nobody_alone.set()
            except EngineLost:
                raise
            except EngineDied as e:
                last = e
                await self._heal(self._home.get(request.row, 0))
        raise EngineDied(
            f"the engine died {self.DEATHS} times while it had this request, the last time alone: {last}"
        )

    def release(self, row: str) -> None:
        """Forget a row that is finished."""
        self._home.pop(row, None)

    def status(self) -> EngineStatus:
        """Return the requests this worker has at the replicas."""
        return EngineStatus(sum(self._busy), 0)

    async def close(self) -> None:
        """Nothing to close: the replicas belong to the pool."""

    async def _send(self, request: Request) -> list[Completion]:
        well = [i for i, healing in enumerate(self._healing) if not healing.locked()] or range(
            len(self._busy)
        )  # a dead one is the least busy
        i = self._home.setdefault(request.row, min(well, key=self._busy.__getitem__))
        self._busy[i] += 1
        answer = self._handle.replicas[i].generate.remote(request, self._handle.model)
        try:
            return await asyncio.wait_for(_unwrap(answer), self._handle.config.request_timeout)
        except TimeoutError:
            if isinstance(answer, ray.ObjectRef):
                ray.cancel(answer)  # or the engine would go on decoding it
            raise EngineError(
                f"no answer within engine.request_timeout = {self._handle.config.request_timeout:g} s",
                retryable=True,
            ) from None
        finally:
            self._busy[i] -= 1

    async def _heal(self, i: int) -> None:
        """Wait until replica `i` serves the model again; whoever comes first does the work."""
        async with self._healing[i]:
            for wait in (1, 5, 15, 30, 60):
                try:
                    await _unwrap(
                        self._handle.replicas[i].load.remote(
                            self._handle.model, self._handle.trust_remote_code
                        )
                    )
                    return
                except EngineDied:
                    await asyncio.sleep(wait)
                except EngineError as e:
                    raise EngineLost(str(e)) from e
        raise EngineLost("the engine could not be started again")


async def _unwrap(ref: Any) -> Any:
    """Await a Ray reference; Ray's wrapping of errors is undone, and an actor that died, or was ended for want of memory, is an EngineDied."""
    try:
        return await ref
    except (ActorDiedError, ActorUnavailableError, RayActorError, OutOfMemoryError) as e:
        raise EngineDied(f"the engine's process ended: {str(e).splitlines()[0]}") from e
    except RayTaskError as e:
        if isinstance(e.cause, EngineError | SelfloopError):
            raise e.cause from None
        raise


def all_of(awaited: Iterable[Awaitable[Any]]) -> asyncio.Future[list[Any]]:
    """Gather, so that nobody complains when who waits for it with a time limit is cancelled (Ctrl-C): its error counts as seen."""
    gathered = asyncio.gather(*awaited)
    gathered.add_done_callback(lambda done: done.cancelled() or done.exception())
    return gathered


class EnginePool:
    """The engines of one driver. `use` gives a handle for a model; replicas are started once and keep serving."""

    def __init__(
        self, recipe: Recipe, config: VllmEngine | OpenaiEngine | ScriptedEngine, logs: str | None = None
    ) -> None:
        self._recipe, self._config, self._logs = recipe, config, logs
        self._replicas: list[Any] = []
        self._attached = False

    async def use(self, model: ModelRef) -> EngineHandle:
        """Return a handle to engines that serve `model`."""
        config = self._config
        if isinstance(config, VllmEngine):
            if not self._replicas:
                self._replicas = (
                    self._attach() if self._recipe.runner.engine_pool else start_replicas(config, self._logs)
                )
            try:
                await asyncio.wait_for(
                    all_of(
                        _unwrap(r.load.remote(model, self._recipe.model.trust_remote_code))
                        for r in self._replicas
                    ),
                    config.start_timeout,
                )
            except TimeoutError:
                raise SelfloopError(
                    f"the vLLM engine was not ready within engine.start_timeout = {config.start_timeout:g} s. Does the cluster have the CPUs or GPUs "
                    f"it asks for? (ray status){self._log_hint()}"
                ) from None
            except EngineError as e:
                raise SelfloopError(f"{e}{self._log_hint()}") from e
        return self.handle(model)

    def handle(self, model: ModelRef) -> EngineHandle:
        """Return a handle that names the model without starting an engine for it."""
        return EngineHandle(self._config, model, self._replicas, self._recipe.model.trust_remote_code)

    async def free(self) -> None:
        """Give up cores, GPUs and memory, for training: own replicas are ended, attached ones drop their model."""
        replicas, self._replicas = self._replicas, []
        closing = [
            asyncio.ensure_future(_unwrap(r.load.remote(None) if self._attached else r.close.remote()))
            for r in replicas
        ]
        if closing:  # a dead one is closed too; one that never got its CPUs or GPUs does not answer
            await asyncio.wait(closing, timeout=CLOSE_SECONDS)
            for unanswered in closing:
                unanswered.cancel()
            await asyncio.gather(*closing, return_exceptions=True)
        if not self._attached:
            for replica in replicas:
                ray.kill(replica)

    async def leave(self) -> None:
        """At a driver's end: own replicas are ended, attached ones go on serving what they serve, so that the next job finds it loaded."""
        if self._attached:
            self._replicas = []
        else:
            await self.free()

    async def make_room(self, model: ModelRef, tokens: int, workers: int = 1) -> None:
        """Give up what a training of `model` needs, in `workers` processes with `tokens` tokens to a forward pass: everything, but on a laptop without GPU and with memory to spare.

        There an idle engine takes no time from the training, and the next round only exchanges its weights.
        """
        one_machine = sum(node["Alive"] for node in ray.nodes()) == 1 if ray.is_initialized() else False
        if (
            not one_machine
            or ray.cluster_resources().get("GPU", 0)
            or not _free_memory(workers * training_bytes(model, tokens))
        ):
            await self.free()

    def _attach(self) -> list[Any]:
        name = self._recipe.runner.engine_pool
        found = sorted(
            a["name"]
            for a in ray.util.list_named_actors(all_namespaces=True)
            if a["namespace"] == NAMESPACE and a["name"].startswith(f"{name}/")
        )
        if not found:
            raise SelfloopError(
                f"runner.engine_pool: no engines named {name!r} on this cluster. Start them with: selfloop serve RECIPE --name {name}"
            )
        self._attached = True
        return [ray.get_actor(n, NAMESPACE) for n in found]

    def _log_hint(self) -> str:
        return f"\nWhat vLLM printed is in {self._logs}/engine-*.log" if self._logs else ""


def training_bytes(model: ModelRef, tokens: int) -> float:
    """Return bytes that a training of all weights needs on a CPU, with `tokens` tokens to a forward pass.

    Weights, gradients and Adam's moments in fp32 are 16 bytes for each of the 2 in the file. What a pass keeps for the way back is in each layer
    some 8 vectors of the hidden size and 5 of the inner one, and 5 of the vocabulary's: 2.5 MB a token for SmolLM2-135M (12.4 GB for 4,500 seen).
    A model whose folder does not tell its sizes is taken for that one.
    """
    weights = sum(file.stat().st_size for file in Path(model.path).glob("*.safetensors"))
    config = cpu.sizes(model.path)
    try:
        layer = 8 * config["hidden_size"] + 5 * config["intermediate_size"]
        token = 4 * (config["num_hidden_layers"] * layer + 5 * config["vocab_size"])
    except (KeyError, TypeError):
        token = 2_500_000
    return 8 * weights + tokens * token


def _free_memory(wanted: float) -> bool:
    """Tell whether `wanted` bytes are free with a quarter to spare, and with the twentieth of all memory at whose loss Ray kills workers."""
    memory = psutil.virtual_memory()
    return 1.25 * wanted < memory.available - 0.05 * memory.total


def start_replicas(config: VllmEngine, logs: str | None = None, name: str | None = None) -> list[Any]:
    """Start the replicas' actors (not yet their engines); with a `name` they are detached and outlive the driver."""
    gpus = _gpus(config)
    # A laptop's only node is ours: the engine then reserves no CPU, since stage workers and training share it with care.
    alone = sum(n["Alive"] for n in ray.nodes()) == 1
    cpus = (
        0
        if alone
        else (config.cpu_cores or 1)
        if gpus
        else (config.cpu_cores or max(n["Resources"].get("CPU", 0) for n in ray.nodes()))
    )
    actor = ray.remote(VllmReplica)
    return [
        actor.options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_concurrency=10_000,
            max_restarts=-1,
            scheduling_strategy="SPREAD",
            **({"name": f"{name}/{i}", "namespace": NAMESPACE, "lifetime": "detached"} if name else {}),
        ).remote(config, i, f"{logs}/engine-{i}.log" if logs else None)
        for i in range(config.replicas)
    ]


def _gpus(config: VllmEngine) -> float:
    if config.gpus is not None:
        return config.gpus
    return (
        config.tensor_parallel_size * config.pipeline_parallel_size
        if ray.cluster_resources().get("GPU", 0)
        else 0
    )
