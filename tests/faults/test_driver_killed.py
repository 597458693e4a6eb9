"""kill -9 of the driver, in every state of a stage, and of its raylet.

The same command ends in the same rows, and nothing is left running.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.store import parts
from tests.faults.driver import Condition, Driver, kill_all, logged

TASKS, IN_FLIGHT = 100, 4
RECIPE = f"""
name: faults
engine: {{kind: scripted, latency: 0.3, jitter: 0.5}}
tasks: {{source: jsonl, path: TASKS}}
held_out: {{count: 10}}
method: {{name: direct, samples: 2}}
runner: {{in_flight: {IN_FLIGHT}, part_rows: 6, part_seconds: 1}}
"""


@pytest.fixture
def driver(tmp_path: Path, local_ray: Any) -> Iterator[Driver]:
    """A driver on a run of its own.

    What it leaves is killed, so that a failure does not disturb other tests.
    """
    lines = [f'{{"question": "What is {i} + {i}?", "answer": {2 * i}}}\n' for i in range(TASKS + 10)]
    (tmp_path / "tasks.jsonl").write_text("".join(lines))
    (tmp_path / "r.yaml").write_text(RECIPE.replace("TASKS", str(tmp_path / "tasks.jsonl")))
    driver = Driver(tmp_path, "run")
    yield driver
    kill_all(driver.mark)


def undisturbed(driver: Driver) -> list[str]:
    """The ids of the rows that a run has in the end: derived from its tasks."""
    tasks = driver.run.rows(driver.run.tasks("train"))
    return sorted(task.child("generate", f"{n}/{i}").id for task in tasks for n in (1,) for i in range(2))


def more(count: Callable[[Path], int], n: int) -> Condition:
    """Reached when there are `n` more than in the state in which the driver found the run."""
    before: list[int] = []

    def reached(stage: Path) -> bool:
        before[:] = before or [count(stage)]
        return count(stage) >= before[0] + n

    return reached


def parts_of(stage: Path) -> int:
    return len(list(stage.glob("part-*.arrow")))


def time_taken(stage: Path) -> int:
    """When the file was written that comes between the last part and the manifest."""
    file = stage / "seconds.json"
    return file.stat().st_mtime_ns if file.exists() else 0


def states() -> Iterator[tuple[str, Condition]]:
    """Every state of a stage in which a driver can die, each later than the one before."""
    yield "tasks are being read", lambda stage: (stage.parents[2] / "tasks").exists()
    yield "the stage begins", lambda stage: (stage / "fingerprint.json").exists()
    yield "requests are answered", more(logged, 2)
    yield "a part is being written", more(lambda stage: len(list(stage.glob("part-*"))), 1)  # often its .tmp
    yield "a part is there", more(parts_of, 1)
    yield "all parts are there, the manifest is not", more(time_taken, 1)


def kill_raylet(driver: Driver) -> None:
    """Kill the raylet under a driver in mid-stage: it ends with a message instead of hanging."""
    # Ray looks for a dead raylet for 15 s by default, in which its worker goes on working.
    process = driver.start_until(more(logged, 3), own_ray=True, RAY_health_check_period_ms="500")
    assert process is not None, driver.output()
    # Children of the driver only: a worker that the raylet is just forking has its name too.
    (raylet,) = (child for child in psutil.Process(process.pid).children() if child.name() == "raylet")
    raylet.kill()
    assert process.wait(120) != 0, driver.output()
    assert "no Ray node is alive" in driver.output()


@pytest.mark.timeout(500)
def test_killed_in_every_state(driver: Driver) -> None:
    """One run, killed in each state in turn, then finished.

    It is once started with a Ray of its own, whose raylet is killed as well.
    """
    killed = []
    for name, condition in states():
        if name == "a part is there":
            kill_raylet(driver)
            driver.nothing_left()
        if driver.kill_when(condition, own_ray=name == "requests are answered"):
            killed.append(name)
        driver.nothing_left()
    assert len(killed) >= 5, killed

    (driver.stage / "manifest.json").unlink(missing_ok=True)  # in case the last kill came a moment too late
    log = driver.log()
    driver.finish("--set", "runner.workers=2")
    assert driver.log() == log, "a run that lacks only its manifest sends no request"
    assert len(log) == TASKS, "one request a task"
    assert sum(log.values()) - TASKS <= IN_FLIGHT * (len(killed) + 1)
    assert driver.ids() == undisturbed(driver)
    manifest = driver.run.manifest(str(driver.stage))
    assert manifest.rows_in == manifest.rows_done == TASKS and manifest.rows_out == 2 * TASKS
    assert sorted(i for p in parts.committed(str(driver.stage)) for i in p.inputs) == sorted(
        r.id for r in driver.run.rows(driver.run.tasks("train"))
    )
    assert not list(driver.stage.rglob("*.tmp"))


@pytest.mark.timeout(300)
def test_second_driver_refused(driver: Driver) -> None:
    """Without waiting, while the first works; that one then ends as if alone, and leaves nothing running."""
    first = driver.start_until(lambda stage: logged(stage) > 0, own_ray=True)
    assert first is not None, driver.output()
    os.kill(first.pid, signal.SIGSTOP)  # or it might be done before the second has started
    try:
        second: subprocess.Popen[bytes] = driver.start()
        assert second.wait(60) == 2
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert f"in use by process {first.pid} on" in driver.output()
    assert first.wait(120) == 0, driver.output()
    assert driver.ids() == undisturbed(driver) and set(driver.log().values()) == {1}
    driver.nothing_left()
