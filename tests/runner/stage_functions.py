"""Stages for the runner's tests. Workers import them by name, so they are a module of their own."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from pipeline.config import Recipe
from pipeline.errors import EngineError, EngineLost
from pipeline.methods import Stage
from pipeline.rows import Dropped, Failed, Kept, Outcome, Row
from pipeline.runner.llm import LLM

STEP = "direct/solve"
ASKS = (STEP,)


async def mixed(row: Row, llm: LLM) -> Outcome:
    """Two requests, one after the other.

    Then the row is kept (as none to two rows), dropped or failed, by its number.
    """
    n = row.payload["n"]
    first = (await llm.chat([{"role": "user", "content": f"first {n}"}], step=STEP))[0]
    second = (await llm.chat([{"role": "user", "content": f"second {n} {first.text}"}], step=STEP, n=2))[1]
    if n % 5 == 3:
        return Dropped("three", "why", second.text)
    if n % 7 == 6:
        return Failed("six", "why")
    return Kept([row.child("mixed", i, text=second.text) for i in range(n % 3)])


async def plain(row: Row, llm: LLM) -> Outcome:
    """One request, one row."""
    (answer,) = await llm.chat(
        [{"role": "user", "content": row.payload.get("text", f"number {row.payload['n']}")}], step=STEP
    )
    return Kept([row.child("plain", 0, text=answer.text)])


async def no_model(row: Row, llm: LLM) -> Outcome:
    """Needs no engine."""
    return Kept([row.child("no_model", 0)])


async def broken(row: Row, llm: LLM) -> Outcome:
    """Every third row goes wrong, in as many ways as there are; the others are kept."""
    n = row.payload["n"]
    if n % 3 == 0:
        match n // 3 % 10:
            case 0:
                raise ValueError(f"row {n}")
            case 1:
                raise FileNotFoundError(2, "No such file", "a file of the stage function")
            case 2:
                raise TimeoutError("the row's own")
            case 3:
                return None  # type: ignore[return-value]
            case 4:
                return Kept([row.child("broken", 0, big=10**30)])
            case 5:
                return Kept([row.child("broken", 0, text="\ud800")])
            case 6:
                return Kept([row.child("broken", 0), row.child("broken", 0)])
            case 7:
                raise KeyError("\udfff")
            case 8:
                sys.exit("a library's own way to give up")
            case 9:
                raise BaseException("no Exception")
    return Kept([row.child("broken", 0)])


async def fails_until(flag: str, row: Row, llm: LLM) -> Outcome:
    """Asks the model, then fails, except for the first rows, until the file `flag` is there."""
    await llm.chat([{"role": "user", "content": f"number {row.payload['n']}"}], step=STEP)
    if row.payload["n"] >= 4 and not Path(flag).exists():
        raise RuntimeError("the verifier's server is down")
    return Kept([row.child("fails_until", 0)])


async def away_until(flag: str, every: int, row: Row, llm: LLM) -> Outcome:
    """As an endpoint that is away until the file `flag` is there.

    After the first rows, one of every `every` rows is answered.
    """
    answer = await plain(row, llm)
    if row.payload["n"] >= 4 and (row.payload["n"] % every or every > 1000) and not Path(flag).exists():
        raise EngineError("cannot connect (gave up after 6 attempts)", retryable=True)
    return answer


async def busy_once(folder: str, row: Row, llm: LLM) -> Outcome:
    """Every third row is not answered the first time."""
    seen = Path(folder) / row.id
    if row.payload["n"] % 3 == 0 and not seen.exists():
        seen.touch()
        raise EngineError("answered 503 (gave up after 6 attempts)", retryable=True)
    return await plain(row, llm)


async def no_engine(row: Row, llm: LLM) -> Outcome:
    """After a few rows there is no engine any more."""
    if row.payload["n"] < 4:
        return await plain(row, llm)
    raise EngineLost("the engine could not be started again")


async def tells_its_pid(folder: str, row: Row, llm: LLM) -> Outcome:
    """As `mixed`; leaves the id of the process it runs in, so that a test can kill it."""
    (Path(folder) / str(os.getpid())).touch()
    return await mixed(row, llm)


async def kills_once(folder: str, row: Row, llm: LLM) -> Outcome:
    """Row 7 kills its worker when it is first seen, in the middle of everything."""
    answer = await mixed(row, llm)
    flag = Path(folder) / "killed"
    if row.payload["n"] == 7 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return answer


async def kills_late_then_at_once(folder: str, row: Row, llm: LLM) -> Outcome:
    """Row 0 kills its worker.

    The first time it does so when others are under way, from then on as soon as it is seen.
    """
    flag = Path(folder) / "killed"
    if row.payload["n"] == 0:
        if not flag.exists():
            await asyncio.sleep(1)
            flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return await plain(row, llm)


async def blocks(row: Row, llm: LLM) -> Outcome:
    """Holds up the worker's event loop, as an endless computation does."""
    await asyncio.sleep(0)
    time.sleep(600)
    return Kept([])


def with_steps(recipe: Recipe) -> Stage:
    """`mixed`, and then every other of its rows.

    They are taken by id, for the order of rows depends on the time they took.
    """
    return Stage(row=mixed, steps={"thin_out": thin_out}, prompts=ASKS)


def thin_out(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
    for row in rows():
        yield row, Dropped("thin") if int(row.id, 16) % 2 else None


def factory(
    function: str, *args: str | int, asks: bool = True, version: int = 1
) -> Callable[[Recipe], Stage]:
    """Return what the runner wants: a function from the recipe to the stage, which can be sent to workers."""
    return partial(_make, function, args, asks, version)


def _make(function: str, args: tuple[str | int, ...], asks: bool, version: int, recipe: Recipe) -> Stage:
    return Stage(row=partial(globals()[function], *args), prompts=ASKS if asks else (), version=version)


async def fails_slowly(row: Row, llm: LLM) -> Outcome:
    """Fails but for the first rows, one batch after the other."""
    await asyncio.sleep(0.3)
    if row.payload["n"] >= 4:
        raise RuntimeError("as always")
    return Kept([row.child("fails_slowly", 0)])
