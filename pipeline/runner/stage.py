"""Runs one stage of a run: feeds rows to workers, survives their deaths, watches for standstill, closes with a manifest."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from pipeline import fingerprint
from pipeline.config import Recipe
from pipeline.display import StageDisplay, round_title
from pipeline.engines.pool import EngineHandle
from pipeline.errors import DamagedError, StageError
from pipeline.ids import digest
from pipeline.retries import UNANSWERED_PASSES
from pipeline.rows import UNANSWERED, Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.runner.crew import Crew
from pipeline.runner.steps import run_steps
from pipeline.runner.worker import StageFactory
from pipeline.store import files, lock, parts
from pipeline.store.manifest import Manifest, PartEntry, Requests, Tokens
from pipeline.store.parts import Counts


@dataclass(frozen=True)
class Input:
    """Rows that go into a stage: how to read them (again and again), how many, and a digest of what they are."""

    rows: Callable[[], Iterator[Row]]
    count: int
    digest: str
    folder: str = ""  # the stage they come from, for a stage that lets them pass


def input_of(run: RunDir, folder: str) -> Input:
    """Return what the done stage (or task set) in `folder` passes on, as another stage's input."""
    manifest = run.manifest(folder)
    if manifest is None:
        raise StageError(f"{folder}: this stage has to be done first (its manifest.json is missing).")
    return Input(
        lambda: run.rows(folder), manifest.rows_out, digest([p.sha256 for p in manifest.parts]), folder
    )


async def run_stage(
    run: RunDir,
    round_: RoundKey,
    name: str,
    factory: StageFactory,
    source: Input,
    recipe: Recipe,
    engine: EngineHandle | None = None,
    *,
    method: str = "",
    plugins: tuple[str, ...] = ("stages",),
) -> Manifest:
    """Bring a stage to its end, from wherever an earlier attempt left it. Returns its manifest, at once if it is done.

    Raises StaleError when stored rows were made with other inputs, StageError when it cannot be finished.
    """
    stage, folder = factory(recipe), run.stage(round_, name)
    mark = fingerprint.check(
        folder,
        fingerprint.components(
            stage,
            sampling=recipe.sampling,
            model=engine.model_name if engine else "",
            inputs=source.digest,
            seed=recipe.seed,
        ),
    )
    done = run.manifest(folder)
    if done is not None:
        return done
    manifest = Manifest(
        stage=name,
        round=round_,
        method=method or recipe.method["name"],
        fingerprint=mark,
        rows_in=source.count,
        rows_done=0,
        rows_out=0,
        model=engine.model_name if engine and stage.prompts else "",
    )
    display = StageDisplay(f"{round_title(round_)}, {name}", source.count)
    began = time.monotonic()
    rows_folder = files.join(folder, "rows") if stage.row and stage.steps else folder
    seconds_before = _seconds(folder)
    try:
        if stage.row is not None:
            cache = await _run_rows(
                run, round_, folder, rows_folder, factory, source, recipe, engine, display, plugins
            )
            manifest.extra = {"prefix_cache": cache} if cache else {}
            _sum_up(manifest, rows_folder, recipe, folder)
        else:
            manifest.rows_done = source.count
        if stage.steps:
            after_rows = (lambda: _rows_of(rows_folder)) if stage.row else source.rows
            manifest.steps = run_steps(stage.steps, after_rows, folder)
    finally:
        manifest.seconds = round(seconds_before + time.monotonic() - began, 2)
        with suppress(OSError):  # a full disk has been reported already, by what had to be written
            files.write_json(files.join(folder, "seconds.json"), manifest.seconds)
    if stage.row is None and not stage.steps:
        before = run.manifest(source.folder)
        manifest.passes_through, manifest.parts, manifest.rows_out = (
            before.stage,
            before.parts,
            before.rows_out,
        )
    else:
        manifest.parts = [_entry(run, path) for path in files.glob(folder, "part-*.arrow")]
        manifest.rows_out = sum(p.rows for p in manifest.parts)
        if stage.facts is not None:
            manifest.extra |= stage.facts(_passed_on(run, manifest), _dropped(run, folder))
    manifest.write(folder)
    display.close(manifest, run)
    return manifest


def given_to(run: RunDir, folder: str) -> frozenset[str]:
    """Return the ids of the rows that a done stage accounts for; none when it is not done."""
    if run.manifest(folder) is None:
        return frozenset()
    return frozenset(
        i for at in (folder, files.join(folder, "rows")) for part in parts.committed(at) for i in part.inputs
    )


async def _run_rows(
    run: RunDir,
    round_: RoundKey,
    folder: str,
    rows_folder: str,
    factory: StageFactory,
    source: Input,
    recipe: Recipe,
    engine: EngineHandle | None,
    display: StageDisplay,
    plugins: tuple[str, ...],
) -> dict[str, int] | None:
    if run.local is not None:
        lock.wait_for_old_workers(run.local)
    parts.sweep(rows_folder, folder)
    failed_before = parts.forget_failed(
        rows_folder, folder
    )  # the stage is not done, so what failed in an earlier attempt gets another chance
    found = None
    for again in range(1 + UNANSWERED_PASSES):
        if again and not (failed_before := parts.forget_failed(rows_folder, folder, UNANSWERED)):
            break
        finished, so_far = _finished(rows_folder)
        if again:
            display.note("rows that were not answered are tried again")
        crew = Crew(
            run, folder, rows_folder, factory, recipe, engine, plugins, display, so_far, round_, failed_before
        )
        await crew.work((row for row in source.rows() if row.id not in finished), frozenset(finished))
        parts.sweep(
            rows_folder, folder
        )  # workers that died on the way may have left rejects without their part
        found = found or crew.prefix_cache
    if run.local is not None:
        files.remove(lock.of_workers(folder))
    return found


def _finished(rows_folder: str) -> tuple[set[str], Counts]:
    """Return the ids of the input rows that parts account for, and what became of them. Raises StageError for rows in two parts."""
    finished: set[str] = set()
    so_far = Counts()
    for part in parts.committed(rows_folder):
        if again := finished.intersection(part.inputs):
            raise StageError(
                f"{part.path}: {len(again)} of its rows, such as {min(again)}, stand in an earlier part as well: two workers wrote them, of which one was "
                "given up by Ray and lived on. Remove that file, and those of its name in dropped/ and failed/, and start the same command again."
            )
        finished.update(part.inputs)
        so_far.add(part.counts)
    return finished, so_far


def _sum_up(manifest: Manifest, rows_folder: str, recipe: Recipe, folder: str) -> None:
    total = Counts()
    for part in parts.committed(rows_folder):
        total.add(part.counts)
    if total.rows_in > manifest.rows_in:
        _finished(rows_folder)  # which names the part that is too many
    manifest.rows_done, manifest.rows_dropped, manifest.rows_failed = total.done, total.dropped, total.failed
    manifest.tokens = Tokens(prompt=total.prompt_tokens, completion=total.completion_tokens)
    manifest.requests = Requests(sent=total.sent, from_log=total.from_log)
    failed = sum(total.failed.values())
    if (unanswered := total.failed.get(UNANSWERED, 0)) and recipe.runner.on_unanswered == "stop":
        raise StageError(
            f"{folder}: {unanswered} of {manifest.rows_in} rows were not answered at {1 + UNANSWERED_PASSES} tries. The first error:\n  {_first_error(folder, UNANSWERED)}\n"
            "What is done is kept; start the same command again when the engine answers, and they are tried again. "
            "To go on without them, as failed rows: --set runner.on_unanswered=fail"
        )
    if failed > recipe.runner.max_failed_share * manifest.rows_in:
        raise StageError(
            f"{folder}: {failed} of {manifest.rows_in} rows failed, more than runner.max_failed_share allows: {total.failed}. The first error:\n"
            f"  {_first_error(folder)}\n"
            "Mend the cause and start the same command again: rows that are done are kept, the failed ones are tried again."
        )


def _first_error(folder: str, error: str | None = None) -> str:
    for table in parts.read_tables(files.join(folder, "failed")):
        for reject in table.select(["reason", "detail"]).to_pylist():
            if error in (None, reject["reason"]):
                return f"{reject['reason']}: {reject['detail']}"
    return "none is recorded"


def _rows_of(folder: str) -> Iterable[Row]:
    for path in files.glob(folder, "part-*.arrow"):
        yield from parts.read_rows(path)


def _passed_on(run: RunDir, manifest: Manifest) -> Iterator[Row]:
    for part in manifest.parts:
        yield from parts.read_rows(run.path(part.path))


def _dropped(run: RunDir, folder: str) -> Iterator[tuple[str, Row]]:
    for reject in run.rejects(folder, "dropped"):
        yield reject["reason"], Row(reject["id"], orjson.loads(reject["payload"]), reject["parents"])


def _entry(run: RunDir, path: str) -> PartEntry:
    return PartEntry(
        path=path.removeprefix(run.root).lstrip("/"), rows=parts.row_count(path), sha256=parts.sha256(path)
    )


def _seconds(folder: str) -> float:
    path = files.join(folder, "seconds.json")
    try:
        found: Any = files.read_json(path) if files.exists(path) else 0.0
    except DamagedError:  # how long it took so far is no reason to stop
        return 0.0
    return float(found)
