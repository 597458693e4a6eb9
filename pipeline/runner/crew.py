"""The workers of one stage, seen from the driver: feed them, show progress, replace dead ones, isolate rows
that kill.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import chain, islice
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from pipeline import cluster
from pipeline.display import StageDisplay
from pipeline.engines.base import EngineStatus
from pipeline.engines.heartbeat import end_hanging
from pipeline.errors import EngineError, EngineLost, SelfloopError, StageError
from pipeline.retries import EARLY_FAILURES, SUSPECT_GROUP, WORKER_STARTS
from pipeline.rows import Failed, Row
from pipeline.runner.job import StageRun
from pipeline.runner.worker import Progress, StageWorkerActor, WorkerSpec
from pipeline.store import files, lock, parts
from pipeline.store.finished import FinishedRows, finished_in
from pipeline.store.parts import Counts, PartWriter

POLL = 0.5  # seconds
NO_NODE_SECONDS = 10.0


class _Member:
    """One worker: its actor, the name of its parts, and the chunks it has that are not yet known to be in a
    part.
    """

    def __init__(self, actor: Any, writer: str) -> None:
        self.actor, self.writer = actor, writer
        self.chunks: dict[int, list[Row]] = {}
        self.progress = Progress()
        self.heard = time.monotonic()  # when it last answered


class Crew:
    """Runs the row function of one stage on Ray workers (see `work`)."""

    def __init__(self, job: StageRun, display: StageDisplay, so_far: Counts, failed_before: int = 0) -> None:
        """`so_far` counts what earlier attempts wrote.

        `failed_before` of their rows failed and are retried first.
        """
        self._job, self._folder, self._rows_folder = job, job.folder, job.rows_folder
        self._display, self._settings = display, job.round.recipe.runner
        self._chunk_rows = max(1, min(self._settings.in_flight // 4, 256))
        self._members: list[_Member] = []
        self._written = so_far  # by earlier attempts and by workers that are gone
        self._may_fail = EARLY_FAILURES + failed_before  # rows that failed before may well fail again
        self._gone_requests = self._gone_tokens = 0
        self._next_writer = 1 + max((int(w) for w in self._earlier_writers()), default=-1)
        self._next_chunk = 0
        self._suspects: list[Row] = []
        self._moved = (time.monotonic(), -1)
        self._queue = EngineStatus(0, 0)
        # Since when an engine is waited for, and how many requests were finished then.
        self._troubled: tuple[float, int] | None = None
        self.prefix_cache: dict[str, int] | None = None

    async def work(self, rows: Iterator[Row], finished: FinishedRows) -> None:
        """Process every row and write its outcome, whichever workers die meanwhile.

        Rows that a dying worker held are retried in groups, then each alone, and are then recorded as failed.
        Afterwards `prefix_cache` has the prompt tokens that the engine looked up in its prefix cache, and
        those it found there.
        """
        first = list(islice(rows, 1))
        if not first:
            return
        source = chain(first, rows)
        cluster.connect(self._settings.address)
        before = await self._job.queue()
        watchers = [asyncio.create_task(self._poll()), asyncio.create_task(self._end_hanging())]
        tasks = [asyncio.create_task(self._feed(source, finished)) for _ in range(self._settings.workers)]
        try:
            await _all_or_first_error(tasks, watchers)
            tasks.append(asyncio.create_task(self._retry_suspects()))
            await _all_or_first_error(tasks[-1:], watchers)
        finally:
            for task in (*tasks, *watchers):
                task.cancel()
            await asyncio.gather(*tasks, *watchers, return_exceptions=True)
            for member in self._members:
                ray.kill(member.actor)
            self._display.stop()
        after = await self._job.queue() if before else None
        # An engine that was restarted meanwhile counts from zero again: nothing to report then.
        if before and after and after.looked_up > before.looked_up and after.found >= before.found:
            used = {"looked_up": after.looked_up - before.looked_up, "found": after.found - before.found}
            self.prefix_cache = used

    def _earlier_writers(self) -> Iterable[str]:
        logs = files.glob(files.join(self._folder, "requests"), "*.jsonl")
        for path in [*files.glob(self._rows_folder, "part-*.arrow"), *logs]:
            yield path.rsplit("/", 1)[1].removeprefix("part-").split(".")[0].split("-")[0]

    async def _start_worker(self, finished: FinishedRows | None = None) -> _Member:
        if finished is None:
            finished, _ = finished_in(self._rows_folder)
        options = {
            "num_cpus": self._settings.worker_cpus,
            "max_concurrency": 1000,
            "scheduling_strategy": "SPREAD",
        }
        round_ = self._job.round
        problem: Exception | None = None
        for _ in range(WORKER_STARTS):
            writer = f"{self._next_writer:05d}"
            self._next_writer += 1
            spec = WorkerSpec(
                factory=self._job.factory,
                recipe=round_.recipe,
                round=round_.number,
                folder=self._folder,
                rows_folder=self._rows_folder,
                run_local=round_.run.local,
                writer=writer,
                engine=self._job.engine,
                seats=dict(self._job.seats),
            )
            member = _Member(ray.remote(StageWorkerActor).options(**options).remote(spec), writer)
            try:
                await _call(member.actor.start.remote(finished))
            except (RayActorError, RayTaskError) as e:
                problem = e
            except EngineError as e:
                raise StageError(f"{self._folder}: the engine cannot be reached: {e}") from e
            else:
                self._members.append(member)
                self._moved = (
                    time.monotonic(),
                    self._moved[1],
                )  # a start takes long on a busy machine: it is progress
                return member
        raise StageError(
            f"{self._folder}: a stage worker did not start in {WORKER_STARTS} attempts: {problem}"
        )

    async def _feed(self, source: Iterator[Row], finished: FinishedRows) -> None:
        """Keep one worker supplied until the rows run out, replacing it when it dies."""
        member = await self._start_worker(finished)
        while True:
            try:
                await self._supply(member, source)
                return
            except RayActorError:
                await self._bury(member)
                member = await self._start_worker()

    async def _supply(self, member: _Member, source: Iterator[Row]) -> None:
        sending: set[asyncio.Task[None]] = set()
        try:
            while rows := list(islice(source, self._chunk_rows)):
                sending.add(self._submit(member, rows))
                if len(sending) > 1:  # two at once: the next rows are there when slots become free
                    done, sending = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
            await asyncio.gather(*sending)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        await _call(member.actor.close.remote())
        self._end(member)
        self._count(member)

    def _submit(self, member: _Member, rows: list[Row]) -> asyncio.Task[None]:
        number = self._next_chunk
        self._next_chunk += 1
        member.chunks[number] = rows  # before any await: rows taken from the source must never be nowhere
        return asyncio.create_task(_call(member.actor.submit.remote(number, rows)))

    def _end(self, member: _Member) -> None:
        self._members.remove(member)
        ray.kill(member.actor)

    def _count(self, member: _Member) -> None:
        """Count what a worker that is gone has written."""
        self._gone_requests += member.progress.finished_requests
        self._gone_tokens += member.progress.finished_tokens
        self._written.add(parts.counted(self._rows_folder, f"part-{member.writer}-*.arrow"))

    async def _bury(self, member: _Member) -> None:
        """A worker died: the rows it had and did not write become suspects, once it is certain that it writes
        no more.
        """
        self._end(member)
        if self._job.round.run.local is not None:
            await lock.wait_for_worker(self._folder, member.writer)
        self._count(member)
        written, _ = finished_in(self._rows_folder, f"part-{member.writer}-*.arrow")
        lost = [row for rows in member.chunks.values() for row in rows if row.id not in written]
        self._suspects += lost
        self._display.note(f"a worker died; retrying the {len(lost)} rows it had")

    async def _retry_suspects(self) -> None:
        retries = self._settings.max_attempts - 1  # the first attempt is behind them
        for _ in range(retries - 1):
            suspects, self._suspects = self._suspects, []
            for start in range(0, len(suspects), SUSPECT_GROUP):
                member, group = await self._start_worker(), iter(suspects[start : start + SUSPECT_GROUP])
                try:
                    await self._supply(member, group)
                except RayActorError:
                    await self._bury(member)
                    self._suspects += group  # those it had not been given yet
        suspects, self._suspects = self._suspects, []
        guilty = [row async for row in self._alone(deque(suspects))] if retries else suspects
        out = PartWriter(self._rows_folder, self._folder, f"{self._next_writer:05d}")
        for row in guilty:
            why = f"its worker died {retries + 1} times while processing this row, the last time alone"
            out.add(row, Failed("worker_died", why))
        out.flush()

    async def _alone(self, rows: deque[Row]) -> AsyncIterator[Row]:
        """Process rows one after the other; yield those that kill a worker which had nothing else before.

        A worker goes on to the next row: there may be many suspects, and a start takes seconds.
        """
        while rows:
            member, first = await self._start_worker(), rows[0]
            try:
                while rows:
                    await self._submit(member, [rows[0]])
                    await _call(member.actor.drain.remote())
                    rows.popleft()
                await _call(member.actor.close.remote())
            except RayActorError:
                await self._bury(member)
                lost, self._suspects = self._suspects, []
                if not lost and rows:
                    rows.popleft()  # it was written before its worker died
                elif rows and rows[0] is first:
                    yield rows.popleft()
            else:
                self._end(member)
                self._count(member)

    async def _poll(self) -> None:
        """Show progress, and raise when nothing moves or everything fails."""
        asked: dict[_Member, asyncio.Task[Progress]] = {}
        while True:
            await asyncio.sleep(POLL)
            for member in self._members:
                if member not in asked:
                    asked[member] = asyncio.create_task(_call(member.actor.progress.remote()))
                    # Retrieve the error of a worker that is removed meanwhile, or asyncio complains about it.
                    asked[member].add_done_callback(lambda answer: answer.cancelled() or answer.exception())
            if asked:  # not for ever: a worker whose stage function blocks does not answer
                await asyncio.wait(asked.values(), timeout=POLL)
            for member in [m for m, answer in asked.items() if answer.done()]:
                try:
                    member.progress = asked.pop(member).result()
                except RayActorError:
                    continue  # its feeder sees that too, and replaces it
                member.heard = time.monotonic()
                for chunk in member.progress.chunks:
                    member.chunks.pop(chunk, None)
                self._stop_if_all_fail(member.progress)
            total = Counts()
            for counts in (self._written, *(m.progress.counts for m in self._members)):
                total.add(counts)
            self._queue = await self._job.queue() or self._clients_status()
            requests = self._gone_requests + sum(m.progress.finished_requests for m in self._members)
            tokens = self._gone_tokens + sum(m.progress.finished_tokens for m in self._members)
            self._display.update(total, self._queue, requests, tokens)
            self._say_trouble(requests)
            self._watch(total.rows_in + requests)

    async def _end_hanging(self) -> None:
        def say(what: str) -> None:
            self._display.note(what)
            self._moved = (time.monotonic(), self._moved[1])  # a start takes long: it is progress

        try:
            await end_hanging(self._job.pools, say)
        except EngineLost as e:
            raise StageError(
                f"{self._folder}: {e}. Finished work is kept; rerun the same command to resume, with a "
                "higher engine.heartbeat_seconds if the engine is only slow."
            ) from e

    def _say_trouble(self, requests: int) -> None:
        """Say once that an engine is waited for, and once that it answers again; `requests` are finished.

        Waiting for it has a limit of its own (engine.outage_seconds): it is not standing still.
        """
        trouble = next((m.progress.trouble for m in self._members if m.progress.trouble), "")
        if trouble:
            if not self._troubled:
                self._display.note(trouble)
            self._troubled = self._troubled or (time.monotonic(), requests)
            self._moved = (time.monotonic(), self._moved[1])
        elif self._troubled and requests > self._troubled[1]:
            self._display.note(f"answered again, after {time.monotonic() - self._troubled[0]:.0f} s")
            self._troubled = None

    def _watch(self, moved: int) -> None:
        """Raise StageError when `moved` (rows and requests finished) has stood still for too long."""
        now, limit = time.monotonic(), self._settings.no_progress_seconds
        still = now - self._moved[0]
        if moved != self._moved[1]:
            self._moved = (now, moved)
        elif still > NO_NODE_SECONDS and not self._members and not any(node["Alive"] for node in ray.nodes()):
            raise StageError(
                f"{self._folder}: no Ray node is alive (did its raylet "
                "exit?). Rerun the same command to resume."
            )
        elif still > limit:
            waiting = [m.progress.oldest for m in self._members if m.progress.oldest]
            oldest = max(waiting, key=lambda o: o[2], default=None)
            what = "no request is in flight"
            if oldest:
                what = f"the oldest request is of row {oldest[0]} ({oldest[1]}), {oldest[2]:.0f} s old"
            silent = max((now - m.heard for m in self._members), default=0)
            if silent > max(5 * POLL, 0.5 * limit):
                what += f"; a worker has not answered for {silent:.0f} s: its stage function blocks"
            raise StageError(
                f"{self._folder}: nothing has finished for {still:.0f} s "
                f"(runner.no_progress_seconds); {what}; engine: "
                f"{self._queue.running} running, {self._queue.waiting} "
                "waiting. Rerun the same command to resume."
            )

    def _clients_status(self) -> EngineStatus:
        """Sum up the workers' own clients, where there is no other engine to ask."""
        status = [m.progress.engine for m in self._members]
        return EngineStatus(sum(s.running for s in status), sum(s.waiting for s in status))

    def _stop_if_all_fail(self, progress: Progress) -> None:
        c = progress.counts
        failed = sum(c.failed.values())
        if not c.done and not c.dropped and failed >= self._may_fail and self._settings.max_failed_share < 1:
            raise StageError(
                f"{self._folder}: the first {failed} rows all failed: {c.failed}. The first error:\n  "
                f"{progress.first_error}\n"
                "Fix the cause and rerun the same command: failed rows are retried."
            )


async def _call(ref: Any) -> Any:
    """Await a Ray call.

    A worker's error for people is raised as itself; a worker killed for lack of memory counts as dead.
    """
    try:
        return await ref
    except OutOfMemoryError as e:
        raise RayActorError(error_msg=str(e)) from e
    except RayTaskError as e:
        if isinstance(e.cause, SelfloopError | EngineError):
            raise e.cause from None
        raise


async def _all_or_first_error(needed: list[asyncio.Task[None]], forever: list[asyncio.Task[None]]) -> None:
    """Wait for the `needed` tasks; the first error of any of them, or of a never-ending one, is raised at
    once.
    """
    left = set(needed)
    while left:
        done, _ = await asyncio.wait({*left, *forever}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        left -= done
