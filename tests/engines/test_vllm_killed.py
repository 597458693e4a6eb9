"""kill -9 of the driver in the middle of a real vLLM run, then the same command."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engines.conftest import ENGINE, POOL
from tests.faults.driver import Driver, kill_all, logged

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
ROWS, IN_FLIGHT = 30, 8


@pytest.fixture
def driver(tmp_path: Path, local_ray: Any) -> Iterator[Driver]:
    tasks = [{"question": f"Write one sentence about the number {i}.", "answer": i} for i in range(ROWS + 1)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tasks))
    recipe = {
        "name": "killed",
        "engine": ENGINE,
        "tasks": {"source": "jsonl", "path": str(tmp_path / "tasks.jsonl")},
        "held_out": {"count": 1},
        "sampling": {"max_tokens": 8},
        "method": {"name": "direct", "samples": 1},
        "runner": {"in_flight": IN_FLIGHT, "part_rows": 10},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    driver = Driver(tmp_path, "run")
    yield driver
    kill_all(driver.mark)


def test_driver_kill_leaves_no_engine(driver: Driver, request: pytest.FixtureRequest) -> None:
    """Of a driver with its own engine no process is left.

    The run is finished by the engine that the other tests share.
    """
    assert driver.kill_when(lambda stage: logged(stage) >= ROWS // 3, own_ray=True), driver.output()
    driver.nothing_left()
    assert driver.run.manifest(str(driver.stage)) is None

    finished = driver.log()
    request.getfixturevalue("warm_recipe")
    driver.finish("--set", f"runner.engine_pool={POOL}")
    expected = sorted(row.child("generate", "1/0").id for row in driver.run.rows(driver.run.tasks("train")))
    log = driver.log()
    assert driver.ids() == expected and len(expected) == ROWS
    assert set(log.values()) == {1} and finished.keys() < log.keys(), "no finished request is sent again"
