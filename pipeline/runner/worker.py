"""The stage worker: many rows in flight in one asyncio loop, each outcome written as soon as a part is full
or old.
"""

import asyncio
import gc
import os
import socket
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pipeline import registry
from pipeline.chat import PLAIN, Chat
from pipeline.config import Recipe
from pipeline.engines.base import Completion, Engine, EngineStatus, Request
from pipeline.engines.pool import EngineHandle
from pipeline.errors import ConfigError, EngineError, EngineLost, StageError, raised_at
from pipeline.garbage import RARELY
from pipeline.prompts import Prompts
from pipeline.retries import OUTAGE
from pipeline.rows import UNANSWERED, Dropped, Failed, Kept, Outcome, Row
from pipeline.runner.llm import LLM, Other
from pipeline.stage import Stage
from pipeline.store import lock, request_log
from pipeline.store.files import exists, join
from pipeline.store.full import full_disk
from pipeline.store.parts import Counts, PartWriter

StageFactory = Callable[[Recipe], Stage]


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to know. `writer` is unique among all workers the stage ever had."""

    factory: StageFactory
    recipe: Recipe
    round: int | str
    folder: str
    rows_folder: str
    run_local: Path | None
    writer: str
    engine: EngineHandle | None
    seats: dict[str, EngineHandle] = field(default_factory=dict)


class _Asked(NamedTuple):
    """An engine that this worker asks, with the model that it serves and how that writes conversations."""

    engine: Engine
    model: str
    chat: Chat

    @classmethod
    def at(cls, handle: EngineHandle) -> "_Asked":
        return cls(handle.connect(), handle.model_name, handle.model.chat)


@dataclass
class Progress:
    """What a worker reports. `chunks` are those whose rows are all in parts since the last report."""

    counts: Counts = field(default_factory=Counts)
    chunks: list[int] = field(default_factory=list)
    in_flight: int = 0
    finished_requests: int = 0
    finished_tokens: int = 0  # of requests that were sent, not read from the log
    oldest: tuple[str, str, float] | None = None  # row id, template, seconds
    engine: EngineStatus = field(default_factory=lambda: EngineStatus(0, 0))
    first_error: str = ""
    trouble: str = ""  # Engine.trouble


class StageWorkerActor:
    """What the driver calls.

    Ray wraps every method of an actor's class: wrapping those that run once a row would cost 5% CPU.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec

    async def start(self, finished: Container[str]) -> None:
        self._worker = StageWorker(
            self._spec
        )  # not in __init__, where Ray would wrap an error meant for people
        gc.freeze()  # what was imported stays: the collector need not scan it again and again
        gc.set_threshold(*RARELY)
        await self._worker.start(finished)

    async def submit(self, chunk: int, rows: list[Row]) -> None:
        await self._worker.submit(chunk, rows)

    async def progress(self) -> Progress:
        return await self._worker.progress()

    async def drain(self) -> None:
        await self._worker.drain()

    async def close(self) -> None:
        await self._worker.close()


class StageWorker:
    """Processes rows in its own process."""

    def __init__(self, spec: WorkerSpec) -> None:
        registry.load("stages")  # registers the built-in methods and verifiers
        self._spec, self._runner = spec, spec.recipe.runner
        if spec.run_local is not None:
            _check_run_visible(spec)
            lock.hold_as_worker(spec.run_local, spec.folder, spec.writer)
        stage = spec.factory(spec.recipe)
        assert stage.row is not None, "a stage without a row function has no workers"
        self._row = stage.row
        self._prompts = Prompts.of(spec.recipe)
        self._main = _Asked.at(spec.engine) if spec.engine else None
        self._seats = {name: _Asked.at(handle) for name, handle in spec.seats.items()}
        self._engines = [asked.engine for asked in (self._main, *self._seats.values()) if asked]
        self._slots = asyncio.Semaphore(self._runner.in_flight)
        self._parts = PartWriter(spec.rows_folder, spec.folder, spec.writer)
        self._log: request_log.RequestLogWriter | None = None
        self._index = self._answered = request_log.RequestLogIndex({}, 0)
        self._asking: dict[int, tuple[str, str, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._chunk_left: dict[int, int] = {}  # rows of a chunk that are not in a written part yet
        self._in_part: list[int] = []
        self._total = Counts()
        self._fresh = Progress()
        self._writing = asyncio.Lock()
        self._last_flush = time.monotonic()
        self._unanswered = 0  # consecutive rows
        self._problem: BaseException | None = None

    async def start(self, finished: Container[str]) -> None:
        """Connect the engine and index the requests that an interrupted attempt left, except those of
        `finished` rows.
        """
        for engine in self._engines:
            await engine.start()
        if self._engines:
            folder = join(self._spec.folder, request_log.REQUESTS)
            self._index = await asyncio.to_thread(request_log.index, folder, finished)
            elsewhere = join(self._spec.folder, request_log.ANSWERED)
            self._answered = await asyncio.to_thread(request_log.index, elsewhere, finished)
            self._log = request_log.RequestLogWriter(folder, self._spec.writer, self._runner.sync_seconds)
        self._flusher = asyncio.create_task(self._flush_by_time())

    async def submit(self, chunk: int, rows: list[Row]) -> None:
        """Accept rows; returns when the last of them has a slot, which is what slows the driver down."""
        self._chunk_left[chunk] = len(rows)
        for row in rows:
            await self._slots.acquire()
            self._raise_problem()
            task = asyncio.create_task(self._work(row, chunk))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Return when all submitted rows are done and in written parts."""
        while self._tasks:
            await asyncio.gather(*self._tasks)
        await self._flush()
        self._raise_problem()

    async def close(self) -> None:
        """Finish what is in flight and close the log and the engine's client."""
        await self.drain()
        self._flusher.cancel()
        if self._log:
            self._log.close()
        for engine in self._engines:
            await engine.close()

    async def progress(self) -> Progress:
        """Return what has happened; each chunk is reported once."""
        self._raise_problem()
        fresh = self._fresh
        self._fresh = Progress(
            finished_requests=fresh.finished_requests,
            finished_tokens=fresh.finished_tokens,
            first_error=fresh.first_error,
        )
        fresh.counts = self._total
        if self._asking:
            row, step, since = next(
                iter(self._asking.values())
            )  # dicts keep insertion order: the first is the oldest
            fresh.oldest = (row, step, time.monotonic() - since)
        busy = [engine.status() for engine in self._engines]
        fresh.trouble = next(filter(None, (engine.trouble() for engine in self._engines)), "")
        fresh.engine = EngineStatus(sum(s.running for s in busy), sum(s.waiting for s in busy))
        return fresh

    async def _work(self, row: Row, chunk: int) -> None:
        cost = Counts()
        try:
            llm = self._llm(row.id, cost)
            outcome = storable(await self._outcome(row, llm))
            self._watch_outage(outcome)
            if self._problem:
                return
            self._parts.add(row, outcome, cost)
            self._in_part.append(chunk)
            self._total.add_outcome(outcome)
            self._total.add(cost)
            if isinstance(outcome, Failed) and not self._fresh.first_error:
                self._fresh.first_error = f"{outcome.error}: {outcome.detail}"
            for engine in self._engines:
                engine.release(row.id)
            if len(self._parts) >= self._runner.part_rows * self._parts.growth:
                await self._flush()
        finally:
            self._slots.release()

    def _llm(self, row: str, cost: Counts) -> LLM:
        """Return what asks on behalf of a row, at whose account the requests go."""
        spec, main = self._spec, self._main
        send, model, chat = (
            partial(self._send, main, cost),
            main.model if main else "",
            main.chat if main else PLAIN,
        )
        seats = self._seats.items()
        others = {name: Other(partial(self._send, a, cost), a.model, a.chat) for name, a in seats} or None
        return LLM(send, row, model, spec.recipe.sampling, spec.round, self._prompts, chat, others)

    async def _outcome(self, row: Row, llm: LLM) -> Outcome:
        try:
            return await self._row(row, llm)
        except EngineLost as e:
            self._problem = StageError(
                f"{self._spec.folder}: {e}. Finished work is kept; rerun the same command to resume."
            )
            return Failed(type(e).__name__, str(e))
        except EngineError as e:
            return Failed(UNANSWERED if e.retryable else type(e).__name__, str(e), e.raw)
        except (KeyboardInterrupt, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as e:  # whatever else (sys.exit too) is recorded with its row; the others go on
            where = os.path.basename(raised_at(e))
            return Failed(type(e).__name__, f"{e} ({where})", str(row.payload.get("text", ""))[:10_000])

    def _watch_outage(self, outcome: Outcome) -> None:
        """Stop when nothing is answered any more, before a passing outage fails all rows that are left."""
        if not isinstance(outcome, Failed) or outcome.error != UNANSWERED:
            self._unanswered = 0
            return
        self._unanswered += 1
        if self._unanswered >= OUTAGE and self._runner.on_unanswered == "stop":
            self._problem = StageError(
                f"{self._spec.folder}: {OUTAGE} consecutive rows were not answered; the last error: "
                f"{outcome.detail}\n"
                "Finished work is kept; rerun the same command when the "
                "engine is back: those rows are retried."
            )

    async def _send(self, asked: _Asked | None, cost: Counts, request: Request) -> list[Completion]:
        assert asked is not None, "the stage lists no prompts, but asks"
        key = request.key(asked.model)
        record = self._index.read(key) if self._index.places else None
        if record is None and (record := self._answered.read(key)):
            self._append(record)
        if record is not None:
            completions = [Completion(**c) for c in record["completions"]]
            cost.from_log += 1
        else:
            completions = await self._ask_engine(asked, request, key)
            cost.sent += 1
        tokens = sum(c.completion_tokens for c in completions)
        self._fresh.finished_requests += 1
        self._fresh.finished_tokens += tokens if record is None else 0
        cost.prompt_tokens += completions[0].prompt_tokens
        cost.completion_tokens += tokens
        return completions

    async def _ask_engine(self, asked: _Asked, request: Request, key: str) -> list[Completion]:
        number, started = id(request), time.monotonic()
        self._asking[number] = (request.row, request.step, started)
        try:
            completions = await asked.engine.generate(request)
        finally:
            del self._asking[number]
        self._append(_record(asked.model, key, request, completions, time.monotonic() - started))
        return completions

    def _append(self, record: dict[str, Any]) -> None:
        assert self._log is not None, "the log is opened with the engines"
        try:
            self._log.append(record)
        except OSError as e:
            self._cannot_write(e)
            raise

    async def _flush_by_time(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._runner.part_seconds))
            if time.monotonic() - self._last_flush >= self._runner.part_seconds * self._parts.growth:
                await self._flush()

    async def _flush(self) -> None:
        async with self._writing:
            self._last_flush = time.monotonic()
            if not len(self._parts):
                return
            part, chunks, self._in_part = self._parts.take(), self._in_part, []
            try:
                if self._log:
                    await asyncio.to_thread(self._log.sync)  # requests are durable before their rows are
                await asyncio.to_thread(part.write)
            except Exception as e:  # the disk's fault, not the rows': the part is lost, so the stage stops
                self._cannot_write(e)
                return
            for chunk in chunks:
                self._chunk_left[chunk] -= 1
                if not self._chunk_left[chunk]:
                    del self._chunk_left[chunk]
                    self._fresh.chunks.append(chunk)

    def _cannot_write(self, e: Exception) -> None:
        if full := full_disk(e, self._spec.folder):
            self._problem = StageError(full)
            return
        what = str(e) if isinstance(e, OSError) else f"{type(e).__name__}: {e}"
        self._problem = StageError(
            f"{self._spec.folder}: cannot be written: {what}. What was "
            "written so far is kept: fix the cause and rerun."
        )

    def _raise_problem(self) -> None:
        if self._problem:
            raise self._problem


def _record(
    model: str, key: str, request: Request, completions: list[Completion], seconds: float
) -> dict[str, Any]:
    return {
        "key": key,
        "row": request.row,
        "step": request.step,
        **({"role": request.role} if request.role else {}),
        "model": model,
        "messages": request.messages,
        "prompt": request.prompt,
        "prefill": request.prefill,
        "sampling": request.sampling.as_json,
        "n": request.n,
        "sample_index": request.sample_index,
        "completions": [c.to_json() for c in completions],
        "time": round(time.time(), 3),
        "seconds": round(seconds, 4),
    }


def _check_run_visible(spec: WorkerSpec) -> None:
    """Raise ConfigError if this node has another disk under the run's path: its output would stay there."""
    if not exists(join(spec.folder, "fingerprint.json")):
        raise ConfigError(
            f"{spec.run_local}: node {socket.gethostname()} does not see the driver's run directory. With "
            "more than one node, "
            "--run must be a path on a file system that all of them share (selfloop doctor --run DIR)."
        )


def storable(outcome: Outcome) -> Outcome:
    """Return the outcome, or a Failed in its place if it cannot be written: one bad row must not take its
    part along.
    """
    try:
        if isinstance(outcome, Kept):
            orjson.dumps([[row.id, row.parents, row.payload] for row in outcome.rows])
            if not all(isinstance(i, str) for row in outcome.rows for i in (row.id, *row.parents)):
                raise TypeError("row ids are text")
            if len({row.id for row in outcome.rows}) < len(outcome.rows):
                raise ValueError("two of the rows it returned have the same id")
            return outcome
        if isinstance(outcome, Dropped):
            orjson.dumps(outcome.adds)
            return Dropped(_text(outcome.reason), _text(outcome.detail), _text(outcome.raw), outcome.adds)
        if isinstance(outcome, Failed):
            return Failed(_text(outcome.error), _text(outcome.detail), _text(outcome.raw))
        raise TypeError(f"a stage returns Kept, Dropped or Failed, not {outcome!r:.200}")
    except (TypeError, ValueError, AttributeError) as e:
        return Failed("bad_outcome", _text(e))


def _text(value: object) -> str:
    """Return text that Arrow can store: no halves of surrogate pairs."""
    return ("" if value is None else str(value)).encode("utf-8", "backslashreplace").decode()
