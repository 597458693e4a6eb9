"""The stage worker: many rows in flight in one asyncio loop, each outcome written as soon as a part is full or old."""

import asyncio
import gc
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pipeline import registry
from pipeline.config import Recipe
from pipeline.engines.base import Completion, EngineStatus, Request
from pipeline.engines.pool import EngineHandle
from pipeline.errors import ConfigError, EngineError, EngineLost, StageError, raised_at
from pipeline.methods import Stage
from pipeline.rows import UNANSWERED, Dropped, Failed, Kept, Outcome, Row
from pipeline.runner.llm import LLM
from pipeline.store import lock, request_log
from pipeline.store.files import exists, join
from pipeline.store.parts import Counts, PartWriter

StageFactory = Callable[[Recipe], Stage]
OUTAGE = 50  # as many rows in a row without an answer are an engine that is away, not rows


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker is told once. `writer` is unique among all workers the stage ever had."""

    factory: StageFactory
    recipe: Recipe
    folder: str
    kept_folder: str
    run_local: Path | None
    writer: str
    engine: EngineHandle | None
    in_flight: int
    plugins: tuple[str, ...]
    round: int | str = 0


@dataclass
class Progress:
    """What a worker says of itself. `chunks` are those that are wholly in parts since the last call."""

    counts: Counts = field(default_factory=Counts)
    chunks: list[int] = field(default_factory=list)
    in_flight: int = 0
    finished_requests: int = 0
    finished_tokens: int = 0  # of requests that were sent, not found in the log
    oldest: tuple[str, str, float] | None = None  # row id, prompt, seconds
    engine: EngineStatus = field(default_factory=lambda: EngineStatus(0, 0))
    drops: list[tuple[str, str, str]] = field(default_factory=list)  # reason, detail, raw: a few examples
    first_error: str = ""


class StageWorkerActor:
    """The part of a StageWorker that the driver calls. Ray wraps every method of an actor's class; those that run for each row would
    pay for that each time (a twentieth of a row's CPU time)."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec

    async def start(self, finished: frozenset[str]) -> None:
        self._worker = StageWorker(self._spec)  # here, so that an error for people comes out as itself
        gc.freeze()  # what was imported stays: the collector need not look through it again and again
        gc.set_threshold(20_000, 20, 20)
        await self._worker.start(finished)

    async def submit(self, chunk: int, rows: list[Row]) -> None:
        await self._worker.submit(chunk, rows)

    async def progress(self) -> Progress:
        return await self._worker.progress()

    async def close(self) -> None:
        await self._worker.close()


def _see_run(spec: WorkerSpec) -> None:
    """Raise ConfigError where this node has another disk under the run's path: what was made would stay on it."""
    if not exists(join(spec.folder, "fingerprint.json")):
        raise ConfigError(
            f"{spec.run_local}: node {socket.gethostname()} does not see the run directory that the driver writes to. With more than one node, --run must be "
            "a path on a file system that all of them share (selfloop doctor --run DIR)."
        )


class StageWorker:
    """Works on rows in the process that it is made in."""

    def __init__(self, spec: WorkerSpec) -> None:
        for plugin in spec.plugins:
            registry.load(plugin)
        self._spec = spec
        if spec.run_local is not None:
            _see_run(spec)
            self._lock = lock.hold_as_worker(spec.run_local)
            self._own_lock = lock.hold(lock.of_worker(spec.folder, spec.writer))
        self._stage = spec.factory(spec.recipe)
        self._engine = spec.engine.connect() if spec.engine else None
        self._model = spec.engine.model_name if spec.engine else ""
        self._slots = asyncio.Semaphore(spec.in_flight)
        self._parts = PartWriter(spec.kept_folder, spec.folder, spec.writer)
        self._log: request_log.RequestLogWriter | None = None
        self._index = request_log.RequestLogIndex({}, 0)
        self._asking: dict[int, tuple[str, str, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._chunk_left: dict[int, int] = {}  # rows of a chunk that are not yet in a written part
        self._in_part: list[int] = []
        self._total = Counts()
        self._fresh = Progress()
        self._writing = asyncio.Lock()
        self._last_flush = time.monotonic()
        self._unanswered = 0  # rows in a row
        self._problem: BaseException | None = None

    async def start(self, finished: frozenset[str]) -> None:
        """Connect the engine and index the requests that an interrupted attempt left, but for those of `finished` rows."""
        if self._engine is not None:
            await self._engine.start()
            folder = join(self._spec.folder, "requests")
            self._index = await asyncio.to_thread(request_log.index, folder, finished)
            self._log = request_log.RequestLogWriter(
                folder, self._spec.writer, self._spec.recipe.runner.sync_seconds
            )
        self._flusher = asyncio.create_task(self._flush_by_time())

    async def submit(self, chunk: int, rows: list[Row]) -> None:
        """Take rows to work on; returns when the last of them has a place, which is how the driver is slowed down."""
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
        if self._engine:
            await self._engine.close()

    async def progress(self) -> Progress:
        """Return what has happened; chunks and drops are reported once."""
        self._raise_problem()
        fresh = self._fresh
        self._fresh = Progress(
            finished_requests=fresh.finished_requests,
            finished_tokens=fresh.finished_tokens,
            first_error=fresh.first_error,
        )
        fresh.counts, fresh.in_flight = self._total, len(self._tasks)
        if self._asking:
            row, step, since = next(
                iter(self._asking.values())
            )  # dicts keep insertion order: the first is the oldest
            fresh.oldest = (row, step, time.monotonic() - since)
        if self._engine:
            fresh.engine = self._engine.status()
        return fresh

    async def _work(self, row: Row, chunk: int) -> None:
        cost = Counts()
        try:
            llm = LLM(
                lambda request: self._send(request, cost),
                row.id,
                self._model,
                self._spec.recipe.sampling,
                self._spec.round,
            )
            outcome = storable(await self._outcome(row, llm))
            self._watch_outage(outcome)
            if self._problem:
                return
            self._parts.add(row, outcome, cost)
            self._in_part.append(chunk)
            self._total.add_outcome(outcome)
            self._total.add(cost)
            self._remember_example(outcome)
            if self._engine:
                self._engine.release(row.id)
            if len(self._parts) >= self._spec.recipe.runner.part_rows:
                await self._flush()
        finally:
            self._slots.release()

    async def _outcome(self, row: Row, llm: LLM) -> Outcome:
        try:
            return await self._stage.row(row, llm)
        except EngineLost as e:
            self._problem = StageError(
                f"{self._spec.folder}: {e}. What was done so far is kept; start the same command again to go on from here."
            )
            return Failed(type(e).__name__, str(e))
        except EngineError as e:
            return Failed(UNANSWERED if e.retryable else type(e).__name__, str(e), e.raw)
        except Exception as e:  # whatever a stage raises is recorded with the row; the others go on
            return Failed(
                type(e).__name__,
                f"{e} ({os.path.basename(raised_at(e))})",
                str(row.payload.get("text", ""))[:10_000],
            )

    def _watch_outage(self, outcome: Outcome) -> None:
        """Stop where nothing is answered any more, before a passing outage has gone through all rows that are left."""
        self._unanswered = (
            self._unanswered + 1 if isinstance(outcome, Failed) and outcome.error == UNANSWERED else 0
        )
        if self._unanswered >= OUTAGE and self._spec.recipe.runner.on_unanswered == "stop":
            self._problem = StageError(
                f"{self._spec.folder}: {OUTAGE} rows one after the other were not answered, the last one: {outcome.detail}\n"
                "What was done so far is kept; start the same command again when the engine answers: those rows are then tried again."
            )

    async def _send(self, request: Request, cost: Counts) -> list[Completion]:
        key = request.key(self._model)
        record = self._index.read(key) if self._index.places else None
        if record is not None:
            completions = [Completion(**c) for c in record["completions"]]
            cost.from_log += 1
        else:
            number = id(request)
            started = time.monotonic()
            self._asking[number] = (request.row, request.step, started)
            try:
                completions = await self._engine.generate(request)
            finally:
                del self._asking[number]
            try:
                self._log.append(self._record(key, request, completions, time.monotonic() - started))
            except OSError as e:
                self._cannot_write(e)
                raise
            cost.sent += 1
        tokens = sum(c.completion_tokens for c in completions)
        self._fresh.finished_requests += 1
        self._fresh.finished_tokens += tokens if record is None else 0
        cost.prompt_tokens += completions[0].prompt_tokens
        cost.completion_tokens += tokens
        return completions

    def _record(
        self, key: str, request: Request, completions: list[Completion], seconds: float
    ) -> dict[str, Any]:
        return {
            "key": key,
            "row": request.row,
            "step": request.step,
            **({"role": request.role} if request.role else {}),
            "model": self._model,
            "messages": request.messages,
            "prompt": request.prompt,
            "prefill": request.prefill,
            "sampling": request.sampling.as_json,
            "n": request.n,
            "sample_index": request.sample_index,
            "completions": [c.to_json() for c in completions],
            "time": request_log.now(),
            "seconds": round(seconds, 4),
        }

    def _remember_example(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            self._fresh.first_error = self._fresh.first_error or f"{outcome.error}: {outcome.detail}"
        elif hasattr(outcome, "reason") and len(self._fresh.drops) < 3:
            self._fresh.drops.append((outcome.reason, outcome.detail, outcome.raw[:300]))

    async def _flush_by_time(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._spec.recipe.runner.part_seconds))
            if time.monotonic() - self._last_flush >= self._spec.recipe.runner.part_seconds:
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
            except Exception as e:  # the disk, not the rows: what was taken for this part is not stored, so the stage has to stop
                self._cannot_write(e)
                return
            for chunk in chunks:
                self._chunk_left[chunk] -= 1
                if not self._chunk_left[chunk]:
                    del self._chunk_left[chunk]
                    self._fresh.chunks.append(chunk)

    def _cannot_write(self, e: Exception) -> None:
        what = str(e) if isinstance(e, OSError) else f"{type(e).__name__}: {e}"
        self._problem = StageError(
            f"{self._spec.folder}: cannot be written: {what}. What was written so far is kept; mend it and start again."
        )

    def _raise_problem(self) -> None:
        if self._problem:
            raise self._problem


def storable(outcome: Outcome) -> Outcome:
    """Return the outcome, or a Failed in its place when it could not be written: one bad row must not take its part along."""
    try:
        if isinstance(outcome, Kept):
            orjson.dumps([[row.id, row.parents, row.payload] for row in outcome.rows])
            if not all(isinstance(i, str) for row in outcome.rows for i in (row.id, *row.parents)):
                raise TypeError("the ids of rows are text")
            if len({row.id for row in outcome.rows}) < len(outcome.rows):
                raise ValueError("two of the rows it returned have the same id")
            return outcome
        if isinstance(outcome, Dropped):
            return Dropped(_text(outcome.reason), _text(outcome.detail), _text(outcome.raw))
        if isinstance(outcome, Failed):
            return Failed(_text(outcome.error), _text(outcome.detail), _text(outcome.raw))
        raise TypeError(f"a stage returns Kept, Dropped or Failed, not {outcome!r:.200}")
    except (TypeError, ValueError, AttributeError) as e:
        return Failed("bad_outcome", _text(e))


def _text(value: object) -> str:
    """Return text that Arrow can store: no halves of surrogate pairs."""
    return ("" if value is None else str(value)).encode("utf-8", "backslashreplace").decode()
