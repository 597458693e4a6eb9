"""Routes a stage worker's requests to the replicas of an engine, and restarts those that die."""

import asyncio
from typing import TYPE_CHECKING

import ray

from pipeline.engines.base import Completion, Engine, EngineStatus, Request
from pipeline.engines.replica import result_of
from pipeline.errors import EngineDied, EngineError, EngineLost
from pipeline.retries import ENGINE_DEATHS, RESTART_WAITS

if TYPE_CHECKING:
    from pipeline.engines.pool import EngineHandle


class ReplicaRouter(Engine):
    """Sends a row's first request to the least busy replica, and its later ones to the same (prefix cache).

    A request whose engine dies is sent again once the engine is restarted, and alone after its second death:
    this convicts a request that kills engines, and acquits those that were merely in flight with it.
    """

    def __init__(self, handle: "EngineHandle") -> None:
        super().__init__(handle.config)
        self._handle = handle
        self._busy = [0] * len(handle.replicas)
        self._home: dict[str, int] = {}
        self._restarting = [asyncio.Lock() for _ in handle.replicas]
        self._alone = asyncio.Lock()
        self._nobody_alone = asyncio.Event()
        self._nobody_alone.set()

    async def generate(self, request: Request) -> list[Completion]:
        """Return the completions. Raises EngineDied for a request present at ENGINE_DEATHS deaths."""
        for death in range(ENGINE_DEATHS):
            try:
                if death < ENGINE_DEATHS - 1:
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
                await self._restart(self._home.get(request.row, 0))
        raise EngineDied(
            f"the engine died {ENGINE_DEATHS} times while it had this request, the last time alone: {last}"
        )

    def release(self, row: str) -> None:
        """Forget a row that is finished."""
        self._home.pop(row, None)

    def status(self) -> EngineStatus:
        """Return the number of this worker's requests at the replicas."""
        return EngineStatus(sum(self._busy), 0)

    async def _send(self, request: Request) -> list[Completion]:
        # A dead replica is the least busy one, and would get all new rows.
        up = [i for i, restarting in enumerate(self._restarting) if not restarting.locked()]
        i = self._home.setdefault(request.row, min(up or range(len(self._busy)), key=self._busy.__getitem__))
        self._busy[i] += 1
        answer = self._handle.replicas[i].generate.remote(request, self._handle.model)
        timeout = self.config.request_timeout
        try:
            return await asyncio.wait_for(result_of(answer), timeout)
        except TimeoutError:
            if isinstance(answer, ray.ObjectRef):
                ray.cancel(answer)  # or the engine would go on decoding it
            problem = f"no answer within engine.request_timeout = {timeout:g} s"
            raise EngineError(problem, retryable=True) from None
        finally:
            self._busy[i] -= 1

    async def _restart(self, i: int) -> None:
        """Wait until replica `i` serves the model again; the first one here does the work."""
        async with self._restarting[i]:
            for wait in RESTART_WAITS:
                try:
                    load = self._handle.replicas[i].load
                    return await result_of(load.remote(self._handle.model, self._handle.trust_remote_code))
                except EngineDied:
                    await asyncio.sleep(wait)
                except EngineError as e:
                    raise EngineLost(str(e)) from e
        raise EngineLost("the engine could not be restarted")
