"""The engines of one driver, which serve one model after another, and the handles of stage workers.

Only what has replicas imports `replica` and `router`, and with them Ray, which takes half a second.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pipeline.config import Recipe
from pipeline.engines import cpu
from pipeline.engines.base import Engine, EngineSection, EngineStatus
from pipeline.models import ModelRef


@dataclass(frozen=True)
class EngineHandle:
    """What a stage worker needs to reach the engine. Travels between Ray processes."""

    config: EngineSection
    model: ModelRef
    replicas: list[Any] = field(default_factory=list)
    trust_remote_code: bool = False

    @property
    def model_name(self) -> str:
        """The model that answers, in fingerprints and the request log (Engine.model_name)."""
        return self.config.implementation.model_name(self.config, self.model)

    async def ready(self) -> "EngineHandle":
        """Return this handle, as a LazyEngine returns its own once the engine has started."""
        return self

    def connect(self) -> Engine:
        """Create the engine, or a client of its replicas, in this process. It still has to be started."""
        engine = self.config.implementation
        if engine.replicated:
            from pipeline.engines.router import ReplicaRouter

            return ReplicaRouter(self)
        return engine.create(self.config, self.model, trust_remote_code=self.trust_remote_code)

    async def queue(self) -> EngineStatus | None:
        """Return the load and cache hits of all replicas; None without replicas, or when one is silent."""
        if not self.replicas:
            return None
        from pipeline.engines.replica import load_of

        return await load_of(self.replicas)


@dataclass(frozen=True)
class LazyEngine:
    """An engine that starts when rows need it: a stage that is done, or taken over, needs none."""

    handle: EngineHandle  # names the model
    start: Callable[[], Awaitable[EngineHandle]]

    @property
    def model_name(self) -> str:
        """The model that answers."""
        return self.handle.model_name

    async def ready(self) -> EngineHandle:
        """Start the engine unless it runs, and return its handle."""
        return await self.start()


@dataclass(frozen=True)
class LazySeats:
    """The engines at a stage's seats, by the seats' names, which start when rows need them."""

    handles: Mapping[str, EngineHandle]  # name the models
    start: Callable[[], Awaitable[Mapping[str, EngineHandle]]]


class EnginePool:
    """The engines of one driver. Replicas are started once; `use` has them serve a model."""

    def __init__(
        self, recipe: Recipe, config: EngineSection, logs: str | None = None, own: bool = False
    ) -> None:
        """`own` engines are started here, never attached to (runner.engine_pool)."""
        self._recipe, self._config, self._logs, self._own = recipe, config, logs, own
        self._replicas: list[Any] = []
        self._attached = False

    @property
    def replicated(self) -> bool:
        """Whether its engines are actors that hold a model, and not clients in the stage workers."""
        return self._config.implementation.replicated

    async def use(self, model: ModelRef) -> EngineHandle:
        """Return a handle to engines that serve `model`. Raises SelfloopError when they cannot."""
        config: Any = self._config
        if config.implementation.replicated:
            from pipeline.engines import replica

            if not self._replicas:
                pool, address = self._recipe.runner.engine_pool, self._recipe.runner.address
                if pool and not self._own:
                    self._replicas, self._attached = replica.attached(pool, address), True
                else:
                    self._replicas = replica.start_replicas(config, self._logs, None, address)
            hint = f"\nThe engine's output is in {self._logs}/engine-*.log" if self._logs else ""
            trust = self._recipe.model.trust_remote_code
            await replica.load_model(self._replicas, model, trust, config.start_timeout, hint)
        return self.handle(model)

    def handle(self, model: ModelRef) -> EngineHandle:
        """Return a handle that names the model, without starting an engine for it."""
        return EngineHandle(self._config, model, self._replicas, self._recipe.model.trust_remote_code)

    async def free(self) -> None:
        """Give up cores, GPUs and memory: own replicas end, attached ones drop their model."""
        replicas, self._replicas = self._replicas, []
        if not replicas:
            return
        from pipeline.engines import replica

        await replica.end_replicas(replicas, keep_actors=self._attached)

    async def leave(self) -> None:
        """At a driver's end: own replicas end, attached ones keep their model loaded for the next job."""
        if self._attached:
            self._replicas = []
        else:
            await self.free()

    async def make_room(self, model: ModelRef, tokens: int, workers: int = 1) -> None:
        """Free the engines for a training of `model` in `workers` processes.

        But not on a single machine without a GPU and with memory to spare (`tokens` per forward pass): there
        an idle engine takes no time from the training, and the next round only swaps its weights.
        """
        if not self._replicas:
            return
        from pipeline.engines import replica

        if replica.on_one_machine_without_gpu():
            memory = psutil.virtual_memory()
            # With a quarter to spare, and the last twentieth of all memory, at which Ray kills workers.
            if 1.25 * workers * training_bytes(model, tokens) < memory.available - 0.05 * memory.total:
                return
        await self.free()


def training_bytes(model: ModelRef, tokens: int) -> float:
    """Return the bytes that full fine-tuning needs on a CPU, with `tokens` tokens to a forward pass.

    Weights, gradients and Adam's moments in fp32 are 16 bytes for every 2 in the file. Per token, a pass
    keeps some 8 vectors of the hidden size and 5 of the inner one in each layer, and 5 of the vocabulary's:
    2.5 MB for SmolLM2-135M (12.4 GB were seen for 4,500 tokens), which also stands for models without a
    config.json.
    """
    weights = sum(file.stat().st_size for file in Path(model.path).glob("*.safetensors"))
    config = cpu.sizes(model.path)
    try:
        layer = 8 * config["hidden_size"] + 5 * config["intermediate_size"]
        token = 4 * (config["num_hidden_layers"] * layer + 5 * config["vocab_size"])
    except (KeyError, TypeError):
        token = 2_500_000
    return 8 * weights + tokens * token
