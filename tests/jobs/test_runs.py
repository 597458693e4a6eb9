"""runs: the state and last result of every run in a folder, and of what is no run any more."""

import json
import shutil
from pathlib import Path

import pytest

from jobs.common import _errors_kept
from pipeline.errors import StageError
from pipeline.rundir import RunDir
from pipeline.store import files
from pipeline.store.lock import run_lock
from tests.jobs.conftest import Built, assert_safe


def listed(selfloop, folder: Path) -> dict[str, dict]:
    found = selfloop("runs", folder, "--json")
    assert found.status == 0, found.text
    assert_safe(found.text)
    return {Path(run["run"]).name: run for run in json.loads(found.out)}


@pytest.fixture
def copied(built: Built, tmp_path: Path) -> RunDir:
    """A copy of the run, which tests may change."""
    return RunDir(shutil.copytree(built.run.root, tmp_path / "runs" / "nested" / "one"))


def test_stopped_under_way_and_failed(copied: RunDir, tmp_path: Path, selfloop):
    runs = tmp_path / "runs"
    run = listed(selfloop, runs)["one"]
    assert (run["state"], run["round"], run["stage"]) == ("stopped", 1, "train")
    assert (run["recipe"], run["method"], run["greedy"]) == ("small", "direct", None)
    with run_lock(copied.local):
        assert listed(selfloop, runs)["one"]["state"] == "under way"
        with pytest.raises(StageError), _errors_kept(copied):
            raise StageError("no rows left \x1b[31m")
        assert listed(selfloop, runs)["one"]["state"] == "under way"
    failed = listed(selfloop, runs)["one"]
    assert (failed["state"], failed["error"]) == ("failed", "no rows left \x1b[31m")
    shown = selfloop("runs", runs).text
    assert "nested/one" in shown and "failed in train of round 1: no rows left" in shown
    assert_safe(shown)
    with _errors_kept(copied):  # the next start
        pass
    assert listed(selfloop, runs)["one"]["state"] == "stopped"


def test_rows_of_the_stage_that_is_next(copied: RunDir, tmp_path: Path, selfloop):
    for name in ("publish", "pairs", "train", "evaluate"):
        files.write_json(f"{copied.stage(1, name)}/manifest.json", {})
        files.write_json(f"{copied.stage(1, name)}/train.json", {})
    accuracy = {"mean": 0.5, "low": 0.4, "high": 0.6}
    files.write_json(copied.evaluation(1), {"round": 1, "n": 30, "greedy": accuracy})
    run = listed(selfloop, tmp_path / "runs")["one"]
    assert (run["state"], run["round"], run["stage"]) == ("stopped", 2, "generate")
    assert run["rows"] == {"in": 1, "expected": 3} and run["greedy"] == accuracy
    shown = selfloop("runs", tmp_path / "runs").text
    assert "stopped at generate of round 2, 1/3 rows" in shown and "50.0% [40.0%, 60.0%] round 1" in shown


def test_what_is_no_run(copied: RunDir, tmp_path: Path, selfloop):
    (copied.local / "run.yaml").write_text("name: [")
    run = listed(selfloop, tmp_path / "runs")["one"]
    assert run["state"] == "unreadable" and "not valid YAML" in run["error"]
    (tmp_path / "empty").mkdir()
    assert listed(selfloop, tmp_path / "empty") == {}
    assert "no runs in" in selfloop("runs", tmp_path / "empty").text
    assert selfloop("runs", tmp_path / "nowhere").status == 2
