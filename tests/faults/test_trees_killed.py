"""kill -9 of the driver and of its workers while trees are being searched: the same command goes on in the middle of each and ends in the same trees."""

from pathlib import Path

import pytest

from tests.faults.driver import Driver, logged

TREES = 8
RECIPE = f"""
name: trees
engine: {{kind: scripted, answers: "tests.stages.methods.agent_r.search.player:play_and_judge", latency: 0.3, jitter: 0.5}}
tasks: {{source: environment, dataset: "tests.stages.methods.agent_r.search.counter:Counter", options: {{train: {TREES}, test: 2}}}}
method: {{name: agent_r, depth: 5, simulations: 4}}
runner: {{in_flight: 4}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path


def trees(driver: Driver) -> dict[str, dict]:
    return {row.id: row.payload["tree"] for row in driver.run.rows(str(driver.stage))}


@pytest.mark.timeout(400)
def test_the_same_trees_and_no_finished_request_again(drivers: tuple[Driver, Driver]) -> None:
    alone, killed = drivers
    alone.finish()
    for more in (3, 9, 17):
        before = logged(killed.stage)
        assert killed.kill_when(lambda stage, enough=before + more: logged(stage) >= enough, workers=True)
        killed.nothing_is_left()
        assert logged(killed.stage) < sum(alone.log().values()), "killed in the middle"
    killed.finish()
    assert trees(killed) == trees(alone) and len(trees(alone)) == TREES
    assert killed.log() == alone.log() and set(killed.log().values()) == {1}
    manifest = killed.run.manifest(str(killed.stage))
    assert (
        manifest.requests.sent + manifest.requests.from_log == len(killed.log())
        and manifest.requests.from_log > 3
    )
