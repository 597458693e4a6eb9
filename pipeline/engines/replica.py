"""Replicas of an engine in Ray actors, which outlive a stage: starting, loading, finding and ending them."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Sequence
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)

from pipeline import cluster
from pipeline.engines.base import Completion, Engine, EngineStatus, ReplicatedSection, Request
from pipeline.errors import EngineDied, EngineError, EngineLost, SelfloopError
from pipeline.models import ModelRef, differ_in_weights_only

NAMESPACE = "selfloop"
STATUS_SECONDS = 5.0  # a replica that takes longer to say how busy it is counts as silent
CLOSE_SECONDS = 30.0  # a replica that takes longer to close is killed
IN_USE_SECONDS = 60.0  # a pool that answers requests for another model for longer is another job's


class EngineReplica:
    """The Ray actor around one engine. Replacing its model keeps it warm from round to round."""

    def __init__(self, config: ReplicatedSection, replica: int, log: str | None) -> None:
        if log:  # the engine's processes inherit the descriptors: all they print ends up in the run directory
            os.makedirs(os.path.dirname(log), exist_ok=True)
            fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(fd, stream.fileno())
        self._config, self._replica = config, replica
        self._engine: Engine | None = None
        self._model: ModelRef | None = None
        self._loading = asyncio.Lock()
        self._running = self._finished = 0  # requests

    async def load(
        self, model: ModelRef | None, trust_remote_code: bool = False, force: bool = False
    ) -> None:
        """Serve `model` from now on; None only frees the memory.

        Another job may have attached to the pool: its requests under way are waited for, up to
        IN_USE_SECONDS, then EngineError. `force` does not wait for them.
        """
        async with self._loading:
            if model == self._model and self._engine is not None:
                return
            if not force:
                await self._wait_until_unused()
            if await self._reloaded(model):
                return
            if self._engine is not None:
                await self._engine.close()
                self._engine = self._model = None
            if model is not None:
                create = self._config.implementation.create
                engine = create(
                    self._config, model, replica=self._replica, trust_remote_code=trust_remote_code
                )
                try:
                    await engine.start()
                except Exception:
                    await engine.close()
                    raise
                self._engine, self._model = engine, model

    async def _wait_until_unused(self) -> None:
        end = time.monotonic() + IN_USE_SECONDS
        while self._running and self._model is not None:
            if time.monotonic() > end:
                raise EngineError(
                    f"the engine answers {self._running} requests with {self._model.name}: another job uses "
                    "it. Wait for that job (selfloop serve --status), or start a pool of your own."
                )
            await asyncio.sleep(0.2)

    async def _reloaded(self, model: ModelRef | None) -> bool:
        """Swap the weights of a running engine if the models differ in nothing else. Return whether done."""
        old = self._model
        if self._engine is None or model is None or old is None:
            return False
        # An engine gets its adapters and its way of writing conversations when it starts.
        if model.adapters or old.adapters or model.chat != old.chat:
            return False
        if not differ_in_weights_only(old.path, model.path):
            return False
        self._model = None
        try:
            await self._engine.reload(model.path)
        except EngineDied as e:
            print(f"{e}; starting a new engine", file=sys.stderr, flush=True)
            return False
        self._model = model
        return True

    async def generate(self, request: Request, model: ModelRef) -> list[Completion]:
        """Have `model` answer a request. After an EngineDied the caller has to `load` again."""
        if self._engine is None or self._model is None:
            raise EngineDied("the replica has no model loaded (it was restarted)")
        if self._model != model:
            raise EngineLost(
                f"the engine now serves {self._model.name}, not "
                f"{model.name}: another job has attached to the same pool"
            )
        self._running += 1
        try:
            return await self._engine.generate(request)
        except EngineDied:
            self._model = None  # so that the next `load` starts a new engine
            raise
        finally:
            self._running -= 1
            self._finished += 1

    @ray.method(concurrency_group="pulse")
    async def pulse(self) -> tuple[int, int, bool]:
        """Return the requests under way, a number that changes when they get on, and whether a model is being
        loaded.

        Its concurrency group has a thread of its own: this is answered while an engine that starts blocks the
        event loop of the others.
        """
        engine = self._engine
        return self._running, self._finished + (engine.progress() if engine else 0), self._loading.locked()

    async def ping(self) -> None:
        """Return when the engine says that it is there."""
        if self._engine is not None:
            await self._engine.ping()

    async def status(self) -> tuple[ModelRef | None, EngineStatus]:
        """Return the loaded model, and how busy the engine is."""
        return self._model, self._engine.status() if self._engine else EngineStatus(0, 0)

    async def close(self) -> None:
        """End the engine and its processes."""
        await self.load(None, force=True)


async def result_of(ref: Awaitable[Any]) -> Any:
    """Await a Ray reference. Errors come unwrapped; a dead or out-of-memory actor is an EngineDied."""
    try:
        return await ref
    except (ActorDiedError, ActorUnavailableError, RayActorError, OutOfMemoryError) as e:
        raise EngineDied(f"the engine's process ended: {str(e).splitlines()[0]}") from e
    except RayTaskError as e:
        if isinstance(e.cause, EngineError | SelfloopError):
            raise e.cause from None
        raise


def start_replicas(
    config: ReplicatedSection, logs: str | None = None, name: str | None = None, address: str | None = None
) -> list[Any]:
    """Start the actors on Ray (see cluster.connect), not yet their engines.

    With a `name` they are detached and outlive the driver.
    """
    cluster.connect(address)
    gpus = config.gpus
    if gpus is None:
        gpus = config.gpus_needed() if ray.cluster_resources().get("GPU", 0) else 0
    nodes = ray.nodes()
    if sum(node["Alive"] for node in nodes) == 1:
        cpus = 0  # the only node is ours: workers and training share it with the engine, so reserve nothing
    else:
        cpus = config.cpu_cores or (1 if gpus else max(n["Resources"].get("CPU", 0) for n in nodes))
    named = {"namespace": NAMESPACE, "lifetime": "detached"} if name else {}
    return [
        ray.remote(concurrency_groups={"pulse": 1})(EngineReplica)
        .options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_concurrency=10_000,
            max_restarts=-1,
            scheduling_strategy="SPREAD",
            **named,
            **({"name": f"{name}/{i}"} if name else {}),
        )
        .remote(config, i, f"{logs}/engine-{i}.log" if logs else None)
        for i in range(config.replicas)
    ]


async def load_model(
    replicas: Sequence[Any], model: ModelRef, trust_remote_code: bool, seconds: float, hint: str = ""
) -> None:
    """Have all replicas serve `model`. Raises SelfloopError, ending with `hint`."""
    loading = asyncio.gather(*(result_of(r.load.remote(model, trust_remote_code)) for r in replicas))
    # After Ctrl-C nobody reads the result; marked as seen, its error is no "exception was never retrieved".
    loading.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait_for(loading, seconds)
    except TimeoutError:
        raise SelfloopError(
            f"the engine was not ready within engine.start_timeout = {seconds:g} s. Does the cluster have "
            f"the CPUs or GPUs it needs? (ray status){hint}"
        ) from None
    except EngineError as e:
        raise SelfloopError(f"{e}{hint}") from e


async def end_replicas(replicas: Sequence[Any], keep_actors: bool = False) -> None:
    """Close the engines, which ends their processes, and kill the actors unless `keep_actors`."""
    calls = [r.load.remote(None) if keep_actors else r.close.remote() for r in replicas]
    closing = [asyncio.ensure_future(result_of(call)) for call in calls]
    if closing:  # an actor that never got its CPUs or GPUs does not answer
        await asyncio.wait(closing, timeout=CLOSE_SECONDS)
        for unanswered in closing:
            unanswered.cancel()
        await asyncio.gather(*closing, return_exceptions=True)
    for replica in () if keep_actors else replicas:
        ray.kill(replica)


async def load_of(replicas: Sequence[Any]) -> EngineStatus | None:
    """Return the load and cache hits of all replicas; None when one is silent."""
    asked = [asyncio.ensure_future(result_of(r.status.remote())) for r in replicas]
    for answer in asked:  # if the caller is canceled meanwhile, nobody else marks their errors as seen
        answer.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
    _, late = await asyncio.wait(asked, timeout=STATUS_SECONDS)
    for answer in late:
        answer.cancel()
    if late:
        return None
    try:
        statuses = [answer.result()[1] for answer in asked]
    except EngineError:
        return None
    counts = [(s.running, s.waiting, s.looked_up, s.found) for s in statuses]
    return EngineStatus(*map(sum, zip(*counts, strict=True)))


def on_one_machine_without_gpu() -> bool:
    """Tell whether Ray runs on a single machine that has no GPU."""
    one_machine = ray.is_initialized() and sum(node["Alive"] for node in ray.nodes()) == 1
    return one_machine and not ray.cluster_resources().get("GPU", 0)


def attached(pool: str, address: str | None = None) -> list[Any]:
    """Return the detached replicas of one pool on the cluster. Raises SelfloopError if there is none."""
    cluster.connect(address)
    actors = named_replicas(pool)
    if not actors:
        raise SelfloopError(
            f"runner.engine_pool: no engines named {pool!r} on this cluster. Start them with: "
            f"selfloop serve RECIPE --name {pool}"
        )
    return [ray.get_actor(actor, NAMESPACE) for actor in actors]


def named_replicas(pool: str | None = None) -> list[str]:
    """Return the names ("pool/number") of the detached replicas of one pool, or of all, in order."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    split = [a["name"].rpartition("/") for a in actors if a["namespace"] == NAMESPACE]
    found = [(name, int(i)) for name, _, i in split if i.isdigit() and pool in (None, name)]
    return [f"{name}/{i}" for name, i in sorted(found)]
