"""kill -9 of the driver and its workers while trees are being searched.

The same command resumes inside each tree and ends in the same ones.
"""

from pathlib import Path

import pytest

from tests.faults.driver import Driver, logged

TREES = 6
RECIPE = f"""
name: trees
engine:
  kind: scripted
  answers: "tests.stages.methods.agent_r.search.player:play_and_judge"
  latency: 0.1
  jitter: 0.5
tasks:
  source: environment
  dataset: "tests.stages.methods.agent_r.search.counter:Counter"
  options: {{train: {TREES}, test: 2}}
method: {{name: agent_r, depth: 5, simulations: 4}}
runner: {{in_flight: 4}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path


def trees(driver: Driver) -> dict[str, dict]:
    return {row.id: row.payload["tree"] for row in driver.run.rows(str(driver.stage))}


@pytest.mark.timeout(300)
def test_killed_while_searching_trees(drivers: tuple[Driver, Driver]) -> None:
    """Twice: in the first trees, and in trees that a killed driver had already resumed."""
    alone, killed = drivers
    alone.finish()
    for further in (5, 15):
        enough = logged(killed.stage) + further
        assert killed.kill_when(lambda stage, enough=enough: logged(stage) >= enough, workers=True)
        killed.nothing_left()
        assert logged(killed.stage) < sum(alone.log().values()), "killed in the middle"
    killed.finish()
    assert trees(killed) == trees(alone) and len(trees(alone)) == TREES
    assert killed.log() == alone.log() and set(killed.log().values()) == {1}
    requests = killed.run.manifest(str(killed.stage)).requests
    assert requests.sent + requests.from_log == len(killed.log()) and requests.from_log > 3
