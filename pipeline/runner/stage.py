"""Runs one stage of a round: feeds rows to workers, survives their deaths, closes with a manifest."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

import orjson

from pipeline import fingerprint, sharing
from pipeline.display import StageDisplay, round_title
from pipeline.engines.pool import EngineHandle, LazyEngine, LazySeats
from pipeline.errors import DamagedError, StageError
from pipeline.retries import UNANSWERED_PASSES
from pipeline.round import Input, Round
from pipeline.rows import UNANSWERED, Row
from pipeline.rundir import RunDir
from pipeline.runner.job import StageRun
from pipeline.runner.steps import rows_in, run_steps
from pipeline.runner.worker import StageFactory
from pipeline.stage import Stage
from pipeline.store import files, lock, parts
from pipeline.store.finished import finished_in
from pipeline.store.manifest import Manifest, PartEntry


async def run_stage(
    round_: Round,
    name: str,
    factory: StageFactory,
    source: Input,
    engine: EngineHandle | LazyEngine | None = None,
    seats: Mapping[str, EngineHandle] | LazySeats | None = None,
) -> Manifest:
    """Finish a stage, from wherever an earlier attempt left it. Returns its manifest, at once if it is done.

    `factory` builds the stage from the recipe, here and in every worker; `seats` are the engines of
    Stage.seats. A stage that a twin of the run has finished is taken over; engines start only if it is not
    done. Raises StaleError when stored rows were made with other inputs, StageError when the stage cannot be
    finished.
    """
    run, stage, folder = round_.run, factory(round_.recipe), round_.folder(name)
    model = engine.model_name if engine else ""
    handles = seats.handles if isinstance(seats, LazySeats) else seats or {}
    at_seats = {seat: handle.model_name for seat, handle in handles.items()}
    inputs = source.digest
    parts_ = fingerprint.components(stage, round_.recipe, model=model, inputs=inputs, seats=at_seats)
    sharing.take_over_stage(run, folder, name, parts_, round_.recipe)
    digest = fingerprint.check(folder, parts_)
    if (done := run.manifest(folder)) is not None:
        return done
    started = await engine.ready() if engine else None
    taken = await seats.start() if isinstance(seats, LazySeats) else handles
    job = StageRun(round_, name, factory, stage, started, taken)
    manifest = Manifest(
        stage=name,
        round=round_.number,
        method=round_.recipe.method["name"],
        fingerprint=digest,
        rows_in=source.count,
        rows_done=0,
        rows_out=0,
        model=", ".join(dict.fromkeys(at_seats.values())) or (model if stage.prompts else ""),
    )
    display = StageDisplay(f"{round_title(round_.number)}, {name}", source.count)
    began, seconds_before = time.monotonic(), _seconds(folder)
    try:
        if stage.row is not None:
            cache = await _run_rows(job, _completed(stage, source), display)
            manifest.extra = {"prefix_cache": cache} if cache else {}
            _sum_up(manifest, job)
        else:
            manifest.rows_done = source.count
        if stage.steps:
            after_rows = (lambda: rows_in(job.rows_folder)) if stage.row else source.rows
            manifest.steps = run_steps(stage.steps, after_rows, folder)
    finally:
        manifest.seconds = round(seconds_before + time.monotonic() - began, 2)
        with suppress(OSError):  # a full disk has been reported by what had to be written
            files.write_json(files.join(folder, "seconds.json"), manifest.seconds)
    _close(manifest, job, source)
    display.close(manifest, run)
    return manifest


def _completed(stage: Stage, source: Input) -> Input:
    if stage.completed is None:
        return source
    return replace(source, rows=partial(stage.completed, source.rows, source.count))


def given_to(run: RunDir, folder: str) -> Iterator[list[str]]:
    """Yield the ids of the rows that a finished stage accounts for, by part; none when it is not done."""
    if run.manifest(folder) is not None:
        for kept in (folder, files.join(folder, "rows")):
            yield from (part.inputs for part in parts.committed(kept))


async def _run_rows(job: StageRun, source: Input, display: StageDisplay) -> dict[str, int] | None:
    from pipeline.runner.crew import Crew  # imports Ray: a stage without a row function needs none

    folder, rows_folder, local = job.folder, job.rows_folder, job.round.run.local
    if local is not None:
        await lock.wait_for_old_workers(local)
    parts.sweep(rows_folder, folder)
    failed_before = parts.forget_failed(
        rows_folder, folder
    )  # the stage is not done: failed rows get another chance
    prefix_cache = None
    for again in range(1 + UNANSWERED_PASSES):
        if again and not (failed_before := parts.forget_failed(rows_folder, folder, UNANSWERED)):
            break
        finished, so_far = finished_in(rows_folder)
        if again:
            display.note("retrying the rows that were not answered")
        crew = Crew(job, display, so_far, failed_before)
        await crew.work((row for row in source.rows() if row.id not in finished), finished)
        parts.sweep(
            rows_folder, folder
        )  # workers that died on the way may have left rejects without their part
        prefix_cache = prefix_cache or crew.prefix_cache
    if local is not None:
        files.remove(lock.worker_locks(folder))
    return prefix_cache


def _sum_up(manifest: Manifest, job: StageRun) -> None:
    """Fill in the counts of the rows. Raises StageError when too many of them failed or were not answered."""
    total, folder, runner = parts.counted(job.rows_folder), job.folder, job.round.recipe.runner
    if total.rows_in > manifest.rows_in:
        finished_in(job.rows_folder)  # raises, naming the surplus part
    manifest.add_up(total)
    failed = sum(total.failed.values())
    if (unanswered := total.failed.get(UNANSWERED, 0)) and runner.on_unanswered == "stop":
        raise StageError(
            f"{folder}: {unanswered} of {manifest.rows_in} rows were not answered in {1 + UNANSWERED_PASSES} "
            "passes. The first error:\n"
            f"  {_first_error(folder, UNANSWERED)}\n"
            "Finished rows are kept; rerun the same command when the engine is back and these are retried. "
            "To continue without them, as failed rows: --set runner.on_unanswered=fail"
        )
    if failed > runner.max_failed_share * manifest.rows_in:
        raise StageError(
            f"{folder}: {failed} of {manifest.rows_in} rows failed, more than runner.max_failed_share "
            f"allows: {total.failed}. "
            f"The first error:\n  {_first_error(folder)}\n"
            "Fix the cause and rerun the same command: finished rows are kept, failed ones are retried."
        )


def _close(manifest: Manifest, job: StageRun, source: Input) -> None:
    """List the stage's parts and write its manifest, which makes it done."""
    run, stage, folder = job.round.run, job.stage, job.folder
    if stage.row is None and not stage.steps:
        before = run.manifest(source.folder)
        assert before is not None, "the input of a stage is a finished stage"
        manifest.passes_through, manifest.parts, manifest.rows_out = (
            before.stage,
            before.parts,
            before.rows_out,
        )
    else:
        paths = files.glob(folder, "part-*.arrow")
        manifest.parts = [_entry(run, path) for path in paths]
        manifest.rows_out = sum(p.rows for p in manifest.parts)
        if stage.summary is not None:
            kept = (row for path in paths for row in parts.read_rows(path))
            manifest.extra |= stage.summary(kept, _dropped(run, folder))
    manifest.write(folder)


def _first_error(folder: str, error: str | None = None) -> str:
    for table in parts.read_tables(files.join(folder, "failed")):
        for reject in table.select(["reason", "detail"]).to_pylist():
            if error in (None, reject["reason"]):
                return f"{reject['reason']}: {reject['detail']}"
    return "none is recorded"


def _dropped(run: RunDir, folder: str) -> Iterator[tuple[str, Row]]:
    for reject in run.rejects(folder, "dropped"):
        yield reject["reason"], Row(reject["id"], orjson.loads(reject["payload"]), reject["parents"])


def _entry(run: RunDir, path: str) -> PartEntry:
    name = path.removeprefix(run.root).lstrip("/")
    return PartEntry(path=name, rows=parts.row_count(path), sha256=parts.sha256(path))


def _seconds(folder: str) -> float:
    """Return the seconds that earlier attempts took."""
    path = files.join(folder, "seconds.json")
    try:
        return float(files.read_json(path) if files.exists(path) else 0.0)
    except DamagedError:
        return 0.0  # no reason to stop
