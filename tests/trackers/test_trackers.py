"""Trackers: what they are told of a run, each point once, and that nothing they do harms it."""

import importlib.util
import json
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import trackers
from pipeline.config import dump_recipe
from pipeline.errors import ConfigError
from pipeline.redact import HIDDEN, redacted
from pipeline.rundir import RunDir
from pipeline.store import files
from pipeline.trackers.follower import Follower
from pipeline.trackers.points import points
from tests.conftest import tiny_recipe
from tests.jobs.conftest import built

pytestmark = pytest.mark.slow

__all__ = ["built"]
LINE = {"total": 4, "epoch": 0.5, "loss": 2.5, "learning_rate": 1e-4, "tokens": 10, "seconds": 1.0}
ACCURACY = {"mean": 0.5, "low": 0.4, "high": 0.6}


def tracked_by(*names: str) -> Any:
    return tiny_recipe(name="small", evaluate={"base_model": False}, track={"to": list(names)})


@pytest.fixture
def run(built, tmp_path: Path) -> RunDir:
    """A copy of the run of tests/jobs, with two steps of a training."""
    copy = RunDir(shutil.copytree(built.run.root, tmp_path / "run"))
    train(copy, 1, 1, 2)
    return copy


def train(run: RunDir, round_: int, *steps: int) -> None:
    path = Path(run.stage(round_, "train")) / "progress.jsonl"
    path.parent.mkdir(exist_ok=True)
    with open(path, "a") as file:
        file.writelines(json.dumps({"step": step, **LINE}) + "\n" for step in steps)


def evaluate(run: RunDir, round_: int) -> None:
    sets = {"hard": {"n": 5, "greedy": ACCURACY, "pass@4": ACCURACY}}
    files.write_json(
        run.evaluation(round_),
        {"round": round_, "n": 30, "parsed": 15, "greedy": ACCURACY, "pass@4": ACCURACY, "sets": sets},
    )


def follow(run: RunDir, *names: str, seconds: float = 60.0) -> None:
    with trackers.tracked(run, tracked_by(*names), seconds):
        pass


def send(run: RunDir, name: str) -> None:
    """Send what is new, in this process."""
    follower = Follower(run, name)
    follower.send()
    follower.close()


def kept(run: RunDir) -> list[dict]:
    return [json.loads(line) for line in (run.local / "tracking" / "kept.jsonl").read_text().splitlines()]


def test_points_of_stages_trainings_and_evaluations(run: RunDir):
    evaluate(run, 1)
    train(run, 2, 1)
    found = {(p.round, p.stage, p.step): p.metrics for p in points(run)}
    assert found[1, "verify", 1]["verify/dropped"] == 3 and found[1, "verify", 1]["verify/kept_share"] == 0.2
    assert found[1, "verify", 1]["verify/dropped_as/minority"] == 2
    assert found[1, "verify", 1]["verify/failed_as/ValueError"] == 1
    assert found[1, "generate", 1]["generate/tokens_per_second"] == 30 / 1.5
    assert (1, "critique", 1) not in found  # it passes rows on
    assert found[1, "train", 2]["train/loss"] == 2.5
    assert (2, "train", 3) in found  # steps are counted over all rounds
    names = {name for metrics in found.values() for name in metrics}
    assert not [name for name in names if any(other.startswith(f"{name}/") for other in names)]
    evaluated = found[1, "evaluate", 1]
    assert evaluated["evaluate/greedy"] == 0.5 and evaluated["evaluate-interval/pass_at_4_low"] == 0.4
    assert (
        evaluated["evaluate/readable_share"] == 0.5 and evaluated["evaluate-hard-interval/greedy_high"] == 0.6
    )


def test_each_point_is_sent_once_over_any_number_of_starts(run: RunDir):
    send(run, "tests.trackers.own:Keeping")
    first = kept(run)
    assert first[-1] == {"closed": True} and {p["stage"] for p in first[1:-1]} >= {"verify", "train"}
    send(run, "tests.trackers.own:Keeping")
    assert kept(run) == first
    train(run, 1, 2, 3)  # resumed from the checkpoint after step 1
    evaluate(run, 1)
    send(run, "tests.trackers.own:Keeping")
    more = kept(run)[len(first) : -1]
    assert [(p["stage"], p["step"]) for p in more] == [("train", 3), ("evaluate", 1)]
    numbers = [p["number"] for p in kept(run) if "number" in p]
    assert numbers == list(range(len(numbers)))
    assert sum("id" in line for line in kept(run)) == 1


def test_points_arrive_while_the_run_goes_on(run: RunDir):
    with trackers.tracked(run, tracked_by("tests.trackers.own:Keeping")):
        end = time.monotonic() + 60
        while not (run.local / "tracking" / "kept.jsonl").exists() and time.monotonic() < end:
            time.sleep(0.2)
        evaluate(run, 1)
        while kept(run)[-1].get("stage") != "evaluate" and time.monotonic() < end:
            time.sleep(0.2)
        assert kept(run)[-1]["stage"] == "evaluate"


def test_a_tracker_that_fails_or_hangs_harms_nothing(run: RunDir, capfd):
    before = sorted(p for p in run.local.rglob("*") if p.is_file())
    began = time.monotonic()
    follow(
        run,
        "tests.trackers.own:Failing",
        "tests.trackers.own:Hanging",
        "tests.trackers.own:Keeping",
        seconds=8,
    )
    assert time.monotonic() - began < 60
    said = capfd.readouterr().err
    assert "Failing: failed: PermissionError: no such account\n" in said
    assert "Hanging: did not end within 8 s and was killed" in said
    assert kept(run)[-1] == {"closed": True}
    after = [
        p for p in run.local.rglob("*") if p.is_file() and "tracking" not in p.parts and "logs" not in p.parts
    ]
    assert sorted(after) == before
    assert "no such account" in (run.local / "logs" / "track-tests.trackers.own.Failing.log").read_text()


def test_the_rest_is_sent_and_a_hang_ends_when_the_driver_was_killed(run: RunDir):
    """A driver that died reads neither what its followers say, nor does it end them."""
    for name, seconds in (("Keeping", "60"), ("Hanging", "3")):
        arguments = [
            sys.executable,
            "-m",
            "pipeline.trackers.follower",
            run.root,
            f"tests.trackers.own:{name}",
            seconds,
        ]
        follower = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        follower.stdout.close()
        follower.stdin.close()
        assert follower.wait(60) == (0 if name == "Keeping" else 3)
    assert len(kept(run)) == 2 + len(list(points(run)))


def test_a_missing_package_is_named_and_a_missing_class_is_an_error(run: RunDir, monkeypatch, capfd):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "wandb" else real(name, *a)
    )
    follow(run, "wandb")
    assert "wandb is not installed: pip install wandb" in capfd.readouterr().err
    with pytest.raises(ConfigError, match="cannot be imported"):
        follow(run, "tests.trackers.own:Nothing")
    with pytest.raises(ConfigError, match="is no tracker"):
        tracked_by("wandbb")


def test_tracking_may_change_between_two_starts(run: RunDir):
    changed = run.recipe().model_copy(update={"track": tracked_by("tensorboard").track})
    assert run.freeze(changed).track.to == ["tensorboard"] and run.recipe().track.to == ["tensorboard"]


def test_tensorboard_has_every_figure_once(run: RunDir):
    send(run, "tensorboard")
    evaluate(run, 1)
    train(run, 1, 2, 3)
    send(run, "tensorboard")
    found = scalars(run.local / "tracking" / "tensorboard")
    expected = [(name, p.step) for p in points(run) for name in p.metrics]
    assert sorted(found) == sorted(expected)


def test_trackio_has_one_run_with_every_point_once(run: RunDir, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when trackio is imported
    pytest.importorskip("trackio")
    send(run, "trackio")
    evaluate(run, 1)
    send(run, "trackio")
    logged = trackio_rows(tmp_path / "trackio", "selfloop")
    assert len({row["run_name"] for row in logged}) == 1
    assert [row["step"] for row in logged] == list(range(len(list(points(run)))))


def test_secrets_stay_out_of_what_is_logged(run: RunDir):
    config = {
        "engine": {
            "base_url": "https://me:pw@host:8000/v1?api-version=2&sig=abc#x",
            "api_key_env": "MY_KEY",
            "extra_body": {"api_key": "sk-1", "headers": [{"Authorization": "Bearer x"}], "max_tokens": 5},
        },
        "prompts": {"direct/solve": "x" * 5000},
        "note": "see https://u:p@host/a?token=1 there",
    }
    text = yaml.safe_dump(redacted(config))
    assert not [s for s in ("pw@", "sig=", "sk-1", "Bearer", "token=1", "u:p") if s in text]
    engine = redacted(config)["engine"]
    assert engine["base_url"] == "https://host:8000/v1" and engine["api_key_env"] == "MY_KEY"
    assert engine["extra_body"]["api_key"] == HIDDEN and engine["extra_body"]["max_tokens"] == 5
    assert len(redacted(config)["prompts"]["direct/solve"]) < 600
    assert redacted(yaml.safe_load(dump_recipe(run.recipe())))["name"] == "small"


def scalars(folder: Path) -> list[tuple[str, int]]:
    """Return the (tag, step) of every scalar in event files, whose records are length, crc, data, crc."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            found += [(v.tag, event.step) for v in event.summary.value if v.HasField("simple_value")]
            at += 16 + length
    return found


def trackio_rows(folder: Path, project: str) -> list[dict]:
    import sqlite3

    [path] = [p for p in folder.glob("*.db") if project in p.name]
    with sqlite3.connect(path) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("select * from metrics order by step")]
