"""Replicas of an engine, played by plain objects.

They die, hang on requests, and never come up.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from pipeline.config import VllmEngine
from pipeline.engines import replica, router
from pipeline.engines.base import Completion, EngineStatus, Request
from pipeline.engines.pool import EngineHandle, EnginePool
from pipeline.engines.router import ReplicaRouter
from pipeline.errors import EngineDied, EngineError, EngineLost, SelfloopError
from pipeline.models import ModelRef
from tests.conftest import tiny_recipe

MODEL = ModelRef("path", "m", "1")


class Remote:
    """What Ray makes of a method."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self.remote = function


class Replica:
    """Answers with its name; dies with all that is in flight on a request that says "kill"."""

    def __init__(self, name: str, deaths: int = 10**9) -> None:
        self.name, self.deaths = name, deaths
        self.loaded: list[tuple] = []
        self.asked: list[str] = []
        self.alive, self.in_flight, self.most = True, 0, 0
        self._died = asyncio.Event()
        self.generate, self.load, self.close = Remote(self._generate), Remote(self._load), Remote(self._close)

    async def _generate(self, request: Request, model: ModelRef) -> list[Completion]:
        assert model == MODEL
        if not self.alive:
            raise EngineDied("no model loaded")
        self.asked.append(request.prompt)
        self.in_flight += 1
        died = self._died
        try:
            await asyncio.sleep(0.01)
            if "hang" in request.prompt:
                await asyncio.sleep(60)
            if "kill" in request.prompt and self.deaths > 0:
                self.deaths -= 1
                self.alive, self._died = False, asyncio.Event()
                died.set()
            if "unavailable" in request.prompt and self.deaths > 0:
                self.deaths -= 1
                raise ActorUnavailableError("network", None)
            if died.is_set():
                raise EngineDied("the engine ended")
            return [Completion(self.name, "stop", 1, self.in_flight)]
        finally:
            self.in_flight -= 1

    async def _load(self, *given: Any) -> None:
        await asyncio.sleep(0.02)
        self.loaded.append(given)
        self.alive = True

    async def _close(self) -> None:
        self.alive = False


def client_of(*replicas: Replica, **config: Any) -> ReplicaRouter:
    return ReplicaRouter(EngineHandle(VllmEngine(**config), MODEL, list(replicas), True))


async def test_a_row_stays_at_its_replica() -> None:
    client = client_of(Replica("a"), Replica("b"))
    found = await asyncio.gather(*(client.generate(Request(prompt="x", row=f"r{i}")) for i in range(10)))
    homes = [c[0].text for c in found]
    assert sorted(homes) == ["a"] * 5 + ["b"] * 5
    again = await asyncio.gather(*(client.generate(Request(prompt="y", row=f"r{i}")) for i in range(10)))
    assert [c[0].text for c in again] == homes and client.status().running == 0
    for i in range(10):
        client.release(f"r{i}")
    assert not client._home


async def test_a_request_that_kills_is_found_and_the_others_are_answered() -> None:
    """The last time it is alone in the engine, so that nothing else dies with it."""
    only = Replica("a")
    client = client_of(only)
    asked = [client.generate(Request(prompt="kill" if i == 3 else f"p{i}", row=f"r{i}")) for i in range(12)]
    found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 30)
    assert isinstance(found[3], EngineDied) and "died 3 times" in str(found[3])
    assert [i for i, f in enumerate(found) if isinstance(f, Exception)] == [3]
    assert only.asked.count("kill") == 3
    assert set(only.loaded) == {(MODEL, True)}, "a restarted engine gets what the first one was given"
    assert (await client.generate(Request(prompt="after", row="z")))[0].text == "a"


async def test_new_rows_go_past_a_replica_that_is_being_started_again() -> None:
    """It has nothing to do, so it would get them all."""
    dead, well = Replica("dead"), Replica("well")

    async def slowly(*_: Any) -> None:
        await asyncio.sleep(0.3)
        dead.alive = True

    dead.alive, dead.load = False, Remote(slowly)
    client = client_of(dead, well)
    first = asyncio.create_task(client.generate(Request(prompt="x", row="r0")))
    await asyncio.sleep(0.1)
    found = await asyncio.gather(*(client.generate(Request(prompt="x", row=f"n{i}")) for i in range(6)))
    assert [c[0].text for c in found] == ["well"] * 6 and not first.done()
    assert (await first)[0].text == "dead"


async def test_an_engine_that_cannot_be_started_again_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Replica("dead")

    async def never(*_: Any) -> None:
        raise EngineDied("no memory")

    async def at_once(_: float) -> None: ...

    dead.alive, dead.load = False, Remote(never)
    monkeypatch.setattr(router.asyncio, "sleep", at_once)
    with pytest.raises(EngineLost, match="could not be restarted"):
        await client_of(dead).generate(Request(prompt="x", row="r"))


class Engine:
    """What a replica serves: it says which model it has."""

    def __init__(self, config: Any, model: ModelRef, **_: Any) -> None:
        self.path = model.path

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def generate(self, request: Request) -> list[Completion]:
        await asyncio.sleep(0.3)
        return [Completion(self.path, "stop", 1, 1)]


async def test_two_jobs_on_one_pool_never_get_each_others_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.engines.vllm.VllmClient.create", Engine)
    monkeypatch.setattr(replica, "IN_USE_SECONDS", 0.1)
    one, two, request = (
        ModelRef("/one", "one", "1"),
        ModelRef("/two", "two", "2"),
        Request(prompt="x", row="r"),
    )
    warm = replica.EngineReplica(VllmEngine(), 0, None)
    await warm.load(one)
    under_way = asyncio.create_task(warm.generate(request, one))
    await asyncio.sleep(0.05)
    with pytest.raises(EngineError, match="answers 1 requests with one: another job uses it"):
        await warm.load(two)
    assert (await under_way)[0].text == "/one"
    await warm.load(two)  # nobody asks now: it may
    with pytest.raises(EngineLost, match="now serves two, not one: another job"):
        await warm.generate(request, one)
    assert (await warm.generate(request, two))[0].text == "/two"
    under_way = asyncio.create_task(warm.generate(request, two))
    await asyncio.sleep(0.05)
    await asyncio.wait_for(warm.close(), 0.1)  # its owner need not wait
    with pytest.raises(EngineDied, match="no model loaded"):
        await warm.generate(request, two)
    await under_way


async def test_nobody_complains_when_the_one_who_asked_how_busy_they_are_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stage may end while it asks; a replica that does not say, or is dead, is no reason to stop."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def fails() -> Any:
        await asyncio.sleep(0.05)
        raise EngineDied("gone")

    async def never() -> Any:
        await asyncio.sleep(60)

    async def says() -> Any:
        return None, EngineStatus(2, 1, 10, 5)

    def handle(*answers: Callable[..., Awaitable[Any]]) -> EngineHandle:
        replicas = [Replica(str(i)) for i in range(len(answers))]
        for one, answer in zip(replicas, answers, strict=True):
            one.status = Remote(answer)
        return EngineHandle(VllmEngine(), MODEL, replicas, True)

    asking = asyncio.create_task(handle(fails, never).queue())
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    monkeypatch.setattr(replica, "STATUS_SECONDS", 0.2)
    assert await handle(says, says).queue() == EngineStatus(4, 2, 20, 10)
    assert await handle(says, fails).queue() is None and await handle(says, never).queue() is None
    del asking
    gc.collect()
    assert complaints == []


async def test_two_deaths_are_forgiven() -> None:
    only = Replica("a", deaths=2)
    found = await asyncio.gather(
        *(client_of(only).generate(Request(prompt=p, row=p)) for p in ("kill", "other"))
    )
    assert [f[0].text for f in found] == ["a", "a"]


async def test_an_unreachable_actor_is_tried_again() -> None:
    assert (await client_of(Replica("a", deaths=1)).generate(Request(prompt="unavailable", row="r")))[
        0
    ].text == "a"


async def test_a_request_that_hangs() -> None:
    client = client_of(Replica("a"), request_timeout=0.1)
    with pytest.raises(EngineError, match=r"no answer within engine.request_timeout = 0.1 s") as e:
        await client.generate(Request(prompt="hang", row="r"))
    assert e.value.retryable and client.status().running == 0


async def test_a_replica_that_never_comes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the cluster lacks the GPUs: a message in time.

    Freeing the engines does not wait for it either.
    """
    never = Replica("a")

    async def wait(*_: Any) -> None:
        await asyncio.sleep(3600)

    never.load, never.close = Remote(wait), Remote(wait)
    killed: list[Any] = []
    monkeypatch.setattr(replica, "start_replicas", lambda *_: [never])
    monkeypatch.setattr(replica.ray, "kill", killed.append)
    monkeypatch.setattr(replica, "CLOSE_SECONDS", 0.1)
    engine = {"kind": "vllm", "start_timeout": 0.1}
    recipe = tiny_recipe(engine=engine)
    engines = EnginePool(recipe, recipe.engine, "/logs")
    with pytest.raises(
        SelfloopError, match=r"not ready within engine.start_timeout = 0.1 s(.|\n)*/logs/engine"
    ):
        await engines.use(MODEL)
    await asyncio.wait_for(engines.free(), 10)
    assert killed == [never]
    await engines.free()


async def test_nobody_complains_when_the_wait_for_an_engine_is_broken_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C while it starts: "stopped", and no "exception was never retrieved" with a traceback after it."""

    async def wait(*_: Any) -> None:
        await asyncio.sleep(3600)

    never, complaints = Replica("a"), []
    never.load = Remote(wait)
    monkeypatch.setattr(replica, "start_replicas", lambda *_: [never])
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    recipe = tiny_recipe(engine={"kind": "vllm"})
    using = asyncio.create_task(EnginePool(recipe, recipe.engine).use(MODEL))
    await asyncio.sleep(0.05)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    del using
    gc.collect()
    await asyncio.sleep(0)
    assert not complaints
