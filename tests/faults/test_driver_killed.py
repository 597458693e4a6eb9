"""kill -9 of the driver, at ten points of a stage: the same command ends in the same rows, and nothing is left running."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.store import parts
from tests.faults.driver import Condition, Driver, logged, marked

TASKS, IN_FLIGHT = 200, 4
RECIPE = f"""
name: faults
engine: {{kind: scripted, latency: 0.3, jitter: 0.5}}
tasks: {{source: jsonl, path: TASKS}}
held_out: {{count: 10}}
method: {{name: direct, samples: 2}}
runner: {{in_flight: {IN_FLIGHT}, part_rows: 6, part_seconds: 1}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe and its tasks."""
    folder = tmp_path_factory.mktemp("faults")
    lines = [f'{{"question": "What is {i} + {i}?", "answer": {2 * i}}}\n' for i in range(TASKS + 10)]
    (folder / "tasks.jsonl").write_text("".join(lines))
    (folder / "r.yaml").write_text(RECIPE.replace("TASKS", str(folder / "tasks.jsonl")))
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> list[str]:
    """The ids of the rows of a run that nobody disturbed."""
    driver = Driver(folder, "undisturbed")
    driver.finish()
    driver.nothing_is_left()
    return driver.ids()


@pytest.fixture
def driver(folder: Path, request: pytest.FixtureRequest) -> Iterator[Driver]:
    """A driver on a run of its own. What it leaves is killed, so that a failure does not disturb other tests."""
    driver = Driver(folder, request.node.name.removeprefix("test_"))
    yield driver
    for pid in marked(driver.mark):
        os.kill(pid, signal.SIGKILL)


def parts_of(stage: Path) -> int:
    return len(list(stage.glob("part-*.arrow")))


def moments() -> Iterator[tuple[str, Condition]]:
    """Ten moments, each later than the one before; `more` counts from the state in which the driver found the run."""

    def more(count: Callable[[Path], int], n: int) -> Condition:
        before: list[int] = []

        def reached(stage: Path) -> bool:
            before[:] = before or [count(stage)]
            return count(stage) >= before[0] + n

        return reached

    yield "tasks are being read", lambda stage: (stage.parents[2] / "tasks").exists()
    yield "the stage begins", lambda stage: (stage / "fingerprint.json").exists()
    yield "a log is opened", more(lambda stage: len(list(stage.glob("requests/*.jsonl"))), 1)
    yield "the first answers", more(logged, 2)
    yield (
        "a part is being written",
        more(lambda stage: len(list(stage.glob("part-*"))), 1),
    )  # its .tmp, as a rule
    yield "a part is there", more(parts_of, 1)
    yield "in between", more(logged, 9)
    yield "two parts more", more(parts_of, 2)
    yield "later", more(logged, 17)
    yield "before the manifest", lambda stage: (stage / "seconds.json").exists()


@pytest.mark.timeout(600)
def test_killed_ten_times(driver: Driver, undisturbed: list[str]) -> None:
    """One run, killed at each moment in turn."""
    killed = []
    for name, condition in moments():
        if driver.kill_when(condition):
            killed.append(name)
        driver.nothing_is_left()
    assert len(killed) >= 8, killed
    driver.finish()
    driver.nothing_is_left()
    assert driver.ids() == undisturbed
    manifest = driver.run.manifest(str(driver.stage))
    assert manifest.rows_in == manifest.rows_done == TASKS and manifest.rows_out == 2 * TASKS
    assert sorted(i for p in parts.committed(str(driver.stage)) for i in p.inputs) == sorted(
        r.id for r in driver.run.rows(driver.run.tasks("train"))
    )
    log = driver.log()
    assert len(log) == TASKS, "one request a task"
    assert sum(log.values()) - TASKS <= IN_FLIGHT * len(killed)
    assert not list(driver.stage.rglob("*.tmp"))


def test_killed_just_before_the_manifest(driver: Driver, undisturbed: list[str]) -> None:
    """A run that was complete but for its manifest asks the model nothing more."""
    driver.kill_when(lambda stage: (stage / "seconds.json").exists())
    driver.nothing_is_left()
    (driver.stage / "manifest.json").unlink(missing_ok=True)
    before = driver.log()
    driver.finish("--set", "runner.workers=2")
    assert driver.ids() == undisturbed and driver.log() == before and set(before.values()) == {1}


def test_a_second_driver_waits_for_no_one_and_harms_nothing(driver: Driver, undisturbed: list[str]) -> None:
    """It is refused while the first works, which then ends as if alone."""
    first = driver.start()
    end = time.monotonic() + 120
    while not logged(driver.stage):
        assert first.poll() is None and time.monotonic() < end, driver.output()
        time.sleep(0.02)
    second = driver.start()
    assert second.wait(60) == 2
    assert f"in use by process {first.pid} on" in driver.output()
    assert first.wait(120) == 0
    assert driver.ids() == undisturbed


def test_the_raylet_is_killed(driver: Driver, undisturbed: list[str]) -> None:
    """The driver does not hang, and the same command goes on."""
    process = driver.start()
    end = time.monotonic() + 120
    while logged(driver.stage) < 10:
        assert process.poll() is None and time.monotonic() < end, driver.output()
        time.sleep(0.02)
    # The driver's own child: a worker that the raylet is just forking has its name too, and may have a lower process id.
    (raylet,) = (child for child in psutil.Process(process.pid).children() if child.name() == "raylet")
    raylet.kill()
    assert process.wait(120) != 0, driver.output()
    assert "Ray has no node left to work on" in driver.output()
    driver.nothing_is_left()
    driver.finish()
    assert driver.ids() == undisturbed
    assert sum(driver.log().values()) - TASKS <= IN_FLIGHT
