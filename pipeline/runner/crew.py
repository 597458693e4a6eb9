"""The workers of one stage, from the driver's side: feeding, progress, replacing the dead, isolating rows that kill."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from pipeline.config import Recipe
from pipeline.display import StageDisplay
from pipeline.engines.base import EngineStatus
from pipeline.engines.pool import EngineHandle
from pipeline.errors import EngineError, SelfloopError, StageError
from pipeline.retries import WORKER_STARTS
from pipeline.rows import Failed, Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.runner.worker import Progress, StageFactory, StageWorkerActor, WorkerSpec
from pipeline.store import files, lock, parts
from pipeline.store.parts import Counts, PartWriter

POLL = 0.5  # seconds
EARLY_FAILURES = 50  # as many rows that fail before one succeeds stop the stage at once
NO_NODE_SECONDS = 10.0


class _Member:
    """One worker: its actor, the name of its parts, and the chunks it has that are not known to be in a part."""

    def __init__(self, actor: Any, writer: str) -> None:
        self.actor, self.writer = actor, writer
        self.chunks: dict[int, list[Row]] = {}
        self.progress = Progress()
        self.heard = time.monotonic()  # when it last answered


class Crew:
    """See `work`."""

    def __init__(
        self,
        run: RunDir,
        folder: str,
        kept_folder: str,
        factory: StageFactory,
        recipe: Recipe,
        engine: EngineHandle | None,
        plugins: tuple[str, ...],
        display: StageDisplay,
        so_far: Counts,
        round_: RoundKey = 0,
        failed_before: int = 0,
    ) -> None:
        self._run, self._folder, self._kept_folder, self._factory = run, folder, kept_folder, factory
        self._recipe, self._engine, self._plugins, self._display = recipe, engine, plugins, display
        self._settings, self._round = recipe.runner, round_
        self._chunk_rows = max(1, min(self._settings.in_flight // 4, 256))
        self._members: list[_Member] = []
        self._written = so_far  # by earlier attempts, and by workers that are gone
        self._may_fail = (
            EARLY_FAILURES + failed_before
        )  # rows that failed in an earlier attempt come first, and may well fail again
        self._gone_requests = self._gone_tokens = 0
        self._next_writer = 1 + max((int(w) for w in self._writers_before()), default=-1)
        self._next_chunk = 0
        self._suspects: list[Row] = []
        self._moved = (time.monotonic(), -1)
        self._queue = EngineStatus(0, 0)
        self.prefix_cache: dict[str, int] | None = None

    async def work(self, rows: Iterator[Row], finished: frozenset[str]) -> None:
        """Have every row worked on and its outcome written, whatever workers die meanwhile.

        Rows that a worker had when it died are tried again: some together, then each alone, then they are recorded as failed.
        `prefix_cache` says afterwards how many prompt tokens the engine looked up in its cache meanwhile, and how many it found.
        """
        first = list(islice(rows, 1))
        if not first:
            return
        source = chain(first, rows)
        before = await self._engine.queue() if self._engine else None
        poller = asyncio.create_task(self._poll())
        tasks = [asyncio.create_task(self._feed(source, finished)) for _ in range(self._settings.workers)]
        try:
            await _all_or_first_error(tasks, poller)
            tasks.append(asyncio.create_task(self._try_suspects()))
            await _all_or_first_error(tasks[-1:], poller)
        finally:
            for task in (*tasks, poller):
                task.cancel()
            await asyncio.gather(*tasks, poller, return_exceptions=True)
            for member in self._members:
                ray.kill(member.actor)
            self._display.stop()
        after = await self._engine.queue() if before else None
        if (
            before and after and after.looked_up > before.looked_up and after.found >= before.found
        ):  # less: the engine was started anew
            self.prefix_cache = {
                "looked_up": after.looked_up - before.looked_up,
                "found": after.found - before.found,
            }

    def _writers_before(self) -> Iterable[str]:
        for path in [
            *files.glob(self._kept_folder, "part-*.arrow"),
            *files.glob(files.join(self._folder, "requests"), "*.jsonl"),
        ]:
            yield path.rsplit("/", 1)[1].removeprefix("part-").split(".")[0].split("-")[0]

    async def _hire(self, finished: frozenset[str] | None = None) -> _Member:
        if finished is None:
            finished = frozenset(i for p in parts.committed(self._kept_folder) for i in p.inputs)
        options = {
            "num_cpus": self._settings.worker_cpus,
            "max_concurrency": 1000,
            "scheduling_strategy": "SPREAD",
        }
        for _ in range(WORKER_STARTS):
            writer = f"{self._next_writer:05d}"
            self._next_writer += 1
            spec = WorkerSpec(
                self._factory,
                self._recipe,
                self._folder,
                self._kept_folder,
                self._run.local,
                writer,
                self._engine,
                self._settings.in_flight,
                self._plugins,
                self._round,
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
                )  # on a loaded machine the start alone may take long, and it is progress
                return member
        raise StageError(
            f"{self._folder}: a stage worker cannot be started, {WORKER_STARTS} tries: {problem}"
        )

    async def _feed(self, source: Iterator[Row], finished: frozenset[str]) -> None:
        """Keep one worker supplied until there are no rows left, replacing it when it dies."""
        member = await self._hire(finished)
        while True:
            try:
                await self._supply(member, source)
                return
            except RayActorError:
                await self._bury(member)
                member = await self._hire()

    async def _supply(self, member: _Member, source: Iterator[Row]) -> None:
        sending: set[asyncio.Task[None]] = set()
        try:
            while rows := list(islice(source, self._chunk_rows)):
                sending.add(self._submit(member, rows))
                if len(sending) > 1:  # two at once: the next rows are there when places become free
                    done, sending = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
            await asyncio.gather(*sending)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        await _call(member.actor.close.remote())
        self._dismiss(member)

    def _submit(self, member: _Member, rows: list[Row]) -> asyncio.Task[None]:
        number = self._next_chunk
        self._next_chunk += 1
        member.chunks[number] = (
            rows  # before anything is awaited: rows that were taken from the source are always somewhere
        )
        return asyncio.create_task(_call(member.actor.submit.remote(number, rows)))

    def _dismiss(self, member: _Member) -> None:
        """A worker has done its work and may go."""
        self._members.remove(member)
        ray.kill(member.actor)
        self._count(member)

    def _count(self, member: _Member) -> None:
        """Count what a worker that is gone has written."""
        self._gone_requests += member.progress.finished_requests
        self._gone_tokens += member.progress.finished_tokens
        for part in parts.committed(self._kept_folder, f"part-{member.writer}-*.arrow"):
            self._written.add(part.counts)

    async def _bury(self, member: _Member) -> None:
        """A worker died: the rows it had and did not write are suspects, once it is certain that it writes no more."""
        self._members.remove(member)
        ray.kill(member.actor)
        if self._run.local is not None:
            await lock.let_go(lock.of_worker(self._folder, member.writer))
        self._count(member)
        written = {
            i for p in parts.committed(self._kept_folder, f"part-{member.writer}-*.arrow") for i in p.inputs
        }
        lost = [row for rows in member.chunks.values() for row in rows if row.id not in written]
        self._suspects += lost
        self._display.note(f"a worker died; the {len(lost)} rows it had are tried again")

    async def _try_suspects(self) -> None:
        tries = self._settings.max_attempts - 1  # they have had one
        for size in [16] * (tries - 1) + [1] * min(1, tries):
            suspects, self._suspects = self._suspects, []
            for start in range(0, len(suspects), size):
                member, group = await self._hire(), iter(suspects[start : start + size])
                try:
                    await self._supply(member, group)
                except RayActorError:
                    await self._bury(member)
                    self._suspects += group  # those it had not been given when it died
        out = PartWriter(self._kept_folder, self._folder, f"{self._next_writer:05d}")
        for row in self._suspects:
            out.add(
                row,
                Failed(
                    "worker_died",
                    f"its worker died {tries + 1} times while it had this row, the last time alone",
                ),
            )
        out.flush()

    async def _poll(self) -> None:
        """Show progress, and raise when nothing moves or everything fails."""
        asked: dict[_Member, asyncio.Task[Progress]] = {}
        while True:
            await asyncio.sleep(POLL)
            for member in self._members:
                if member not in asked:
                    asked[member] = asyncio.create_task(_call(member.actor.progress.remote()))
                    # A worker that is let go meanwhile leaves its answer to nobody, which asyncio would complain of.
                    asked[member].add_done_callback(lambda answer: answer.cancelled() or answer.exception())
            if asked:  # not for ever: a worker whose stage function blocks does not answer
                await asyncio.wait(asked.values(), timeout=POLL)
            for member in [m for m, answer in asked.items() if answer.done()]:
                try:
                    member.progress = asked.pop(member).result()
                except RayActorError:
                    continue  # its feeder is told as well, and replaces it
                member.heard = time.monotonic()
                for chunk in member.progress.chunks:
                    member.chunks.pop(chunk, None)
                self._stop_if_all_fail(member.progress)
            total = Counts()
            for counts in (self._written, *(m.progress.counts for m in self._members)):
                total.add(counts)
            self._queue = (await self._engine.queue() if self._engine else None) or self._asked()
            requests = self._gone_requests + sum(m.progress.finished_requests for m in self._members)
            tokens = self._gone_tokens + sum(m.progress.finished_tokens for m in self._members)
            self._display.update(total, self._queue, requests, tokens)
            self._watch(total.rows_in + requests)

    def _watch(self, moved: int) -> None:
        now = time.monotonic()
        if moved != self._moved[1]:
            self._moved = (now, moved)
        elif (
            now - self._moved[0] > NO_NODE_SECONDS
            and not self._members
            and not any(node["Alive"] for node in ray.nodes())
        ):
            raise StageError(
                f"{self._folder}: Ray has no node left to work on (was its raylet ended?). Start the same command again to go on from here."
            )
        elif now - self._moved[0] > self._settings.no_progress_seconds:
            asking = [m.progress.oldest for m in self._members if m.progress.oldest]
            oldest = max(asking, key=lambda o: o[2], default=None)
            what = (
                f"the oldest request is of row {oldest[0]} ({oldest[1]}), {oldest[2]:.0f} s old"
                if oldest
                else "no request is under way"
            )
            silent = max((now - m.heard for m in self._members), default=0)
            if silent > max(5 * POLL, 0.5 * self._settings.no_progress_seconds):
                what += f"; a worker has not answered for {silent:.0f} s: its stage function blocks"
            raise StageError(
                f"{self._folder}: nothing has finished for {now - self._moved[0]:.0f} s (runner.no_progress_seconds); {what}; engine: "
                f"{self._queue.running} running, {self._queue.waiting} waiting. Start the same command again to go on from here."
            )

    def _asked(self) -> EngineStatus:
        """What the workers say of their own clients, where there is no other engine to ask."""
        status = [m.progress.engine for m in self._members]
        return EngineStatus(sum(s.running for s in status), sum(s.waiting for s in status))

    def _stop_if_all_fail(self, progress: Progress) -> None:
        c = progress.counts
        if (
            not c.done
            and not c.dropped
            and sum(c.failed.values()) >= self._may_fail
            and self._settings.max_failed_share < 1
        ):
            raise StageError(
                f"{self._folder}: the first {sum(c.failed.values())} rows all failed: {c.failed}. The first error:\n  {progress.first_error}\n"
                "Mend the cause and start the same command again; the failed rows are then tried again."
            )


async def _call(ref: Any) -> Any:
    """Await a Ray call; an error for people that a worker raised comes out as itself, and a worker ended for want of memory as one that died."""
    try:
        return await ref
    except OutOfMemoryError as e:
        raise RayActorError(error_msg=str(e)) from e
    except RayTaskError as e:
        if isinstance(e.cause, SelfloopError | EngineError):
            raise e.cause from None
        raise


async def _all_or_first_error(needed: list[asyncio.Task[None]], forever: asyncio.Task[None]) -> None:
    """Wait for the `needed` tasks; the first error of any, that of the never-ending one included, is raised at once."""
    left = set(needed)
    while left:
        done, _ = await asyncio.wait({*left, forever}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        left -= done
