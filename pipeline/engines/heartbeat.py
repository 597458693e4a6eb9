"""Tell engines that hang from slow ones, and end them: a process that is stopped, or a deadlock in vLLM.

An engine shows that it lives when a request finishes, when tokens flow (Engine.progress), or when it answers
a question (Engine.ping). It hangs if requests are in flight and it has done none of these for
`engine.heartbeat_seconds`. Its process is killed then; the routers of the stage workers see an engine that
died, start it again, and repeat the requests that it had.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ray

from pipeline.engines.replica import result_of
from pipeline.errors import EngineLost

if TYPE_CHECKING:
    from pipeline.engines.pool import EngineHandle

RESTARTS = 1  # of engines that hang, per stage
END_SECONDS = 60.0  # Ray asks an actor to end before it kills it: 7 s for a process that is stopped
LONGEST_TICK = 10.0  # seconds; if this process was stopped itself, that is no silence of an engine


class _Watched:
    def __init__(self, replica: Any, seconds: float) -> None:
        self.replica, self.seconds, self.silent = replica, seconds, 0.0
        self._asked: dict[str, asyncio.Task[Any]] = {}
        self._progress: int | None = None

    def hangs(self, passed: float) -> bool:
        """Read the answers, ask again, and tell whether it has been silent for too long."""
        alive = False
        for name in ("ping", "pulse"):
            answer = self._asked.get(name)
            if answer is None or answer.done():
                alive |= answer is not None and self._lives(name, answer)
                self._asked[name] = asyncio.ensure_future(result_of(getattr(self.replica, name).remote()))
        self.silent = 0.0 if alive else self.silent + passed
        return self.silent >= self.seconds

    def _lives(self, name: str, answer: "asyncio.Task[Any]") -> bool:
        if answer.exception() or name == "ping":  # one that has died does not hang: the routers restart it
            return True
        running, progress, loading = answer.result()
        before, self._progress = self._progress, progress
        return loading or not running or progress != before

    def end(self) -> None:
        """Kill it and the processes beside it, by its reaper. The actor starts again, without a model."""
        ray.kill(self.replica, no_restart=False)
        self.silent = -END_SECONDS

    def forget(self) -> None:
        for answer in self._asked.values():
            answer.cancel()
            # Nobody else reads its error: without this, asyncio complains about it.
            answer.add_done_callback(lambda answer: answer.cancelled() or answer.exception())


async def end_hanging(handles: Sequence["EngineHandle"], say: Callable[[str], None]) -> None:
    """Watch the replicas until canceled; end one that hangs, and `say` so. EngineLost after RESTARTS."""
    watched = [
        _Watched(replica, handle.config.heartbeat_seconds)  # type: ignore[attr-defined]
        for handle in handles
        for replica in handle.replicas
        if handle.config.heartbeat_seconds  # type: ignore[attr-defined]
    ]
    if not watched:
        await asyncio.Event().wait()
    shortest = min(one.seconds for one in watched)
    ended, before = 0, time.monotonic()
    try:
        while True:
            await asyncio.sleep(min(2.0, shortest / 10))
            now = time.monotonic()
            passed, before = min(now - before, LONGEST_TICK, shortest / 3), now
            for one in [one for one in watched if one.hangs(passed)]:
                one.end()
                ended += 1
                what = f"an engine has shown no sign of life for {one.seconds:g} s (engine.heartbeat_seconds)"
                if ended > RESTARTS:
                    raise EngineLost(f"{what}, for the second time in this stage, and was ended")
                say(f"{what}: it is ended and started again; its requests are repeated")
    finally:
        for one in watched:
            one.forget()
