"""The runner on a real Ray: rows are conserved, whatever dies.

The same rows come out, and finished work is not done again.
"""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError

from pipeline.engines.replica import result_of
from pipeline.errors import ConfigError, EngineDied, StageError, StaleError
from pipeline.methods import Stage
from pipeline.round import Input, Round, input_of
from pipeline.runner.crew import _call
from pipeline.runner.stage import run_stage
from pipeline.runner.worker import StageWorker, WorkerSpec
from pipeline.store import files
from tests.conftest import tiny_recipe
from tests.runner.conftest import Stages
from tests.runner.stage_functions import factory, with_steps

ROWS = [f"r{i:03d}" for i in range(40)]
FAILED = {f"r{n:03d}": "six" for n in range(40) if n % 5 != 3 and n % 7 == 6}
DROPPED = {f"r{n:03d}": "three" for n in range(40) if n % 5 == 3}


def all_is_there(stages: Stages, manifest: Any) -> None:
    """Check what `mixed` makes of ROWS, in manifest, parts and rejects."""
    assert (manifest.rows_in, manifest.rows_dropped, manifest.rows_failed) == (
        40,
        {"three": len(DROPPED)},
        {"six": len(FAILED)},
    )
    assert manifest.rows_done == 40 - len(DROPPED) - len(FAILED)
    assert stages.inputs() == dict.fromkeys(ROWS, 1)
    assert stages.rejects("dropped") == DROPPED and stages.rejects("failed") == FAILED
    assert len(stages.ids()) == len(set(stages.ids())) == manifest.rows_out
    assert len(stages.log()) == 80


async def test_conservation_and_the_same_ids_however_it_is_run(stages: Stages, other: Stages) -> None:
    stages.engine = {"jitter": 1, "latency": 0.02, "fail_share": 0.2}
    manifest = await stages(factory("mixed"))
    all_is_there(stages, manifest)
    assert (
        manifest.requests.sent == 80 and manifest.requests.from_log == 0 and set(stages.log().values()) == {1}
    )
    two = await other(factory("mixed"), workers=2, in_flight=3, part_rows=1000)
    all_is_there(other, two)
    assert other.ids() == stages.ids()
    # a stage that is done is only read: a factory that would fail, and no worker
    assert await stages(factory("mixed")) == manifest
    with pytest.raises(StaleError, match="code version: 1 -> 2"):
        await stages(factory("mixed", version=2))


async def test_rows_that_go_wrong_are_recorded_and_the_others_go_on(stages: Stages) -> None:
    stages.rows = 60
    manifest = await stages(factory("broken", asks=False))
    assert manifest.rows_done == 40 and manifest.rows_failed == {
        "ValueError": 2,
        "FileNotFoundError": 2,
        "TimeoutError": 2,
        "KeyError": 2,
        "SystemExit": 2,
        "BaseException": 2,
        "bad_outcome": 8,
    }
    details = {r["id"]: r["detail"] for r in stages.run.rejects(stages.folder, "failed")}
    assert details["r000"].startswith("row 0 (stage_functions.py:")
    assert (
        "not None" in details["r009"]
        and "64-bit" in details["r012"]
        and "surrogates" in details["r015"]
        and "same id" in details["r018"]
    )
    assert len(stages.ids()) == 40


async def test_a_row_that_kills_its_worker(stages: Stages) -> None:
    """It is recorded after max_attempts; rows that were only near it are done."""
    stages.engine = {"kill_on": "number 13"}
    manifest = await stages(factory("plain"))
    assert manifest.rows_failed == {"worker_died": 1} and manifest.rows_done == 39
    assert stages.rejects("failed") == {"r013": "worker_died"}
    assert stages.inputs() == dict.fromkeys(ROWS, 1)
    assert not [f for f in Path(stages.folder).rglob("*.tmp")]
    workers = list(Path(stages.folder, "requests").iterdir())
    assert len(workers) <= 6, "two before, one for the suspects, one by one up to it, it alone, the rest"


async def test_rows_that_a_dying_worker_was_not_yet_given(stages: Stages, tmp_path: Path) -> None:
    """The row that kills is the first of its group.

    The others of the group have not been sent when the worker dies.
    """
    stages.engine = {"latency": 0.3}
    manifest = await stages(factory("kills_late_then_at_once", str(tmp_path)), in_flight=12)
    assert (manifest.rows_done, manifest.rows_failed) == (39, {"worker_died": 1})
    assert stages.rejects("failed") == {"r000": "worker_died"} and stages.inputs() == dict.fromkeys(ROWS, 1)


async def test_a_worker_dies_once(stages: Stages, other: Stages, tmp_path: Path) -> None:
    manifest = await stages(factory("kills_once", str(tmp_path)), workers=2)
    assert (tmp_path / "killed").exists()
    all_is_there(stages, manifest)
    repeated = sum(stages.log().values()) - 80
    assert repeated <= 8 * 2


async def test_workers_are_killed_at_random_moments(stages: Stages, tmp_path: Path) -> None:
    """Three times kill -9 while rows are in flight.

    Rejects that a dead worker left without their part are gone.
    """
    stages.engine = {"latency": 0.15, "jitter": 0.5}
    draw, killed = random.Random(7), []

    async def killer() -> None:
        while len(killed) < 3:
            await asyncio.sleep(draw.uniform(0.1, 0.6))
            alive = [
                int(p.name) for p in tmp_path.iterdir() if p.name.isdigit() and int(p.name) not in killed
            ]
            if alive:
                killed.append(alive[-1])
                os.kill(alive[-1], signal.SIGKILL)

    task = asyncio.create_task(killer())
    manifest = await stages(factory("tells_its_pid", str(tmp_path)), max_attempts=9)
    task.cancel()
    assert killed
    all_is_there(stages, manifest)
    assert sum(stages.log().values()) - 80 <= 8 * len(killed)


async def test_too_many_failures_stop_it_and_the_same_call_finishes_it(
    stages: Stages, tmp_path: Path
) -> None:
    stage = factory("fails_until", str(tmp_path / "mended"))
    with pytest.raises(StageError) as e:
        await stages(stage)
    assert "36 of 40 rows failed" in str(
        e.value
    ) and "RuntimeError: the verifier's server is down (stage_functions.py:" in str(e.value)
    assert stages.run.manifest(stages.folder) is None and len(stages.rejects("failed")) == 36
    (tmp_path / "mended").touch()
    manifest = await stages(stage)
    assert manifest.rows_done == 40 and manifest.rows_failed == {} and stages.rejects("failed") == {}
    assert stages.inputs() == dict.fromkeys(ROWS, 1)
    assert manifest.requests.from_log == 36 and set(stages.log().values()) == {1}, (
        "what was answered is not asked again"
    )


async def test_the_first_fifty_all_fail(stages: Stages) -> None:
    """A wrong address must not be paid for with all rows."""
    stages.rows, stages.engine = 3000, {"reject_share": 1, "latency": 0.05}
    with pytest.raises(
        StageError, match=r"the first \d+ rows all failed: .*\n  EngineError: the scripted engine rejects"
    ):
        await stages(factory("plain"))
    assert sum(stages.inputs().values()) < 3000


async def test_rows_that_failed_before_may_fail_again(stages: Stages) -> None:
    """They come first in the next attempt: that all of those fail does not mean that all rows will."""
    stages.rows = 64
    with pytest.raises(StageError, match="60 of 64 rows failed"):
        await stages(factory("fails_slowly", asks=False))
    manifest = await stages(factory("fails_slowly", asks=False), max_failed_share=0.95)
    assert manifest.rows_done == 4 and manifest.rows_failed == {"RuntimeError": 60}


async def test_a_node_that_does_not_see_the_run_says_so_and_writes_nothing(tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk_of_another_node"
    folder = str(elsewhere / "generate")
    spec = WorkerSpec(factory("plain"), tiny_recipe(), 1, folder, folder, elsewhere, "00000", None)
    with pytest.raises(ConfigError, match="does not see the driver's run directory"):
        StageWorker(spec)
    assert not elsewhere.exists()


async def test_a_worker_or_engine_that_ray_ends_for_want_of_memory_has_died() -> None:
    async def ended() -> None:
        raise OutOfMemoryError("Task was killed due to the node running low on memory.")

    with pytest.raises(RayActorError, match="low on memory"):
        await _call(ended())
    with pytest.raises(EngineDied, match="low on memory"):
        await result_of(ended())


async def test_rows_that_were_not_answered_are_tried_again(stages: Stages, tmp_path: Path) -> None:
    """Without anybody having to start the command a second time; nothing of it is left in the manifest."""
    manifest = await stages(factory("busy_once", str(tmp_path)))
    assert manifest.rows_done == 40 and manifest.rows_failed == {} and stages.rejects("failed") == {}
    assert stages.inputs() == dict.fromkeys(ROWS, 1) and len(list(tmp_path.glob("r0*"))) == 14


async def test_an_outage_is_not_held_against_the_rows(stages: Stages, tmp_path: Path) -> None:
    """A share of rows that max_failed_share would allow.

    Were the stage done with them, they would be lost for good.
    """
    away = factory("away_until", str(tmp_path / "back"), 2)
    with pytest.raises(
        StageError,
        match=r"18 of 40 rows were not answered in 2 passes. The first error:\n  unanswered: cannot connect",
    ):
        await stages(away)
    assert stages.run.manifest(stages.folder) is None
    accepted = await stages(away, on_unanswered="fail")
    assert accepted.rows_failed == {"unanswered": 18} and accepted.rows_done == 22
    Path(stages.folder, "manifest.json").unlink()
    (tmp_path / "back").touch()
    manifest = await stages(away)
    assert (
        manifest.rows_done == 40 and manifest.rows_failed == {} and stages.inputs() == dict.fromkeys(ROWS, 1)
    )


async def test_a_long_outage_stops_before_it_has_gone_through_all_rows(
    stages: Stages, tmp_path: Path
) -> None:
    stages.rows, stages.engine = 3000, {"latency": 0.02}
    with pytest.raises(
        StageError, match=r"50 consecutive rows were not answered; the last error: cannot connect"
    ):
        await stages(factory("away_until", str(tmp_path / "back"), 10**6))
    assert sum(stages.inputs().values()) < 500


async def test_without_an_engine_the_stage_stops_and_no_row_has_failed(stages: Stages) -> None:
    with pytest.raises(StageError, match="could not be started again. Finished work is kept"):
        await stages(factory("no_engine"), in_flight=2)
    assert stages.rejects("failed") == {}
    assert (await stages(factory("plain"))).rows_done == 40


async def test_a_folder_that_is_half_removed_is_not_taken_for_a_new_one(stages: Stages) -> None:
    await stages(factory("mixed"))
    for name in ("fingerprint.json", "manifest.json"):
        Path(stages.folder, name).unlink()
    with pytest.raises(StaleError, match="fingerprint.json is missing, but .*part-"):
        await stages(factory("mixed"))


async def test_a_row_in_two_parts_is_named(stages: Stages) -> None:
    """As a worker leaves it that Ray gave up and that lived on, where there are no locks."""
    await stages(factory("plain"))
    Path(stages.folder, "manifest.json").unlink()
    part = min(Path(stages.folder).glob("part-*.arrow"))
    part.with_name("part-09999-00000.arrow").write_bytes(part.read_bytes())
    with pytest.raises(
        StageError,
        match="part-09999-00000.arrow: 5 of its rows, such as r000, are in an earlier part as well",
    ):
        await stages(factory("plain"))


async def test_nothing_moves(stages: Stages) -> None:
    stages.engine = {"latency": 600}
    with pytest.raises(
        StageError,
        match=r"nothing has finished for .*; the oldest request is of row r000 \(direct/solve\).*8 running",
    ) as e:
        await stages(factory("plain"), no_progress_seconds=30)
    assert "generate" in str(e.value)


async def test_a_stage_function_blocks(stages: Stages) -> None:
    """The worker cannot answer: the watch must not wait for it."""
    with pytest.raises(StageError, match="a worker has not answered for .*its stage function blocks"):
        await stages(factory("blocks"), no_progress_seconds=30)


async def test_a_worker_that_cannot_start_is_a_message(stages: Stages) -> None:
    class Unknown:
        """The driver has the stage, the worker has not."""

        here = os.getpid()

        def __call__(self, recipe: Any) -> Stage:
            if os.getpid() == self.here:
                return factory("plain")(recipe)
            raise RuntimeError("no such stage there")

    with pytest.raises(StageError, match="(?s)a stage worker did not start.*no such stage there"):
        await stages(Unknown())


async def test_a_disk_that_refuses_stops_the_stage(stages: Stages) -> None:
    """It is not held against the rows.

    As root, a folder's mode does not help: a file is in the place of a folder.
    """
    files.write_bytes(f"{stages.folder}/dropped", b"")
    with pytest.raises(
        StageError, match=r"cannot be written: .*Not a directory|cannot be written: .*File exists"
    ):
        await stages(factory("mixed"))
    os.unlink(f"{stages.folder}/dropped")
    all_is_there(stages, await stages(factory("mixed")))


async def test_rows_and_then_steps(stages: Stages, other: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted between the two, it goes on with the steps. What rows and steps drop is in one place."""
    from pipeline.runner import stage

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "run_steps", killed)
    with pytest.raises(KeyboardInterrupt):
        await stages(with_steps)
    monkeypatch.undo()
    manifest = await stages(with_steps)
    thin = manifest.steps[0].dropped["thin"]
    assert manifest.rows_dropped == {"three": len(DROPPED)} and manifest.rows_failed == {"six": len(FAILED)}
    assert (
        manifest.steps[0].rows_in == manifest.rows_out + thin
        and len(stages.rejects("dropped")) == len(DROPPED) + thin
    )
    assert set(stages.log().values()) == {1}
    await other(with_steps, workers=2)
    assert other.ids() == stages.ids() and len(stages.ids()) == manifest.rows_out > 0


def halve(rows: Any) -> Iterator[Any]:
    from pipeline.rows import Dropped

    for i, row in enumerate(rows()):
        yield row, Dropped("odd") if i % 2 else None


async def test_steps_and_stages_that_pass_rows_on(stages: Stages) -> None:
    """A stage with rows and steps; one of steps only; an empty one.

    None of the latter two starts a worker.
    """
    with_steps = Stage(row=None, steps={"halve": halve, "again": halve}, version=1)
    first = await stages(factory("no_model", asks=False))
    source = input_of(stages.run, stages.folder)
    round_ = Round(stages.run, 1, tiny_recipe())
    steps = await run_stage(round_, "critique", lambda r: with_steps, source)
    assert [(s.name, s.rows_in, s.rows_out, s.dropped) for s in steps.steps] == [
        ("halve", 40, 20, {"odd": 20}),
        ("again", 20, 10, {"odd": 10}),
    ]
    assert (steps.rows_in, steps.rows_done, steps.rows_out) == (40, 40, 10) and steps.dropped_in_all() == {
        "odd": 30
    }
    assert len(list(stages.run.rejects(stages.run.stage(1, "critique"), "dropped"))) == 30
    passed = await run_stage(round_, "filter", lambda r: Stage(), round_.input("critique"))
    assert (passed.passes_through, passed.rows_out, passed.parts) == ("critique", 10, steps.parts)
    ids = [r.id for r in stages.run.rows(stages.run.stage(1, "filter"))]
    assert ids == [r.id for r in stages.run.rows(stages.run.stage(1, "critique"))] and len(ids) == 10
    empty = Input(lambda: iter(()), 0, "none")
    nothing = await run_stage(round_.at(2), "generate", factory("plain"), empty)
    assert (nothing.rows_in, nothing.rows_out) == (0, 0) and first.rows_out == 40
