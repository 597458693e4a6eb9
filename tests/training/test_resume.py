"""Resumed trainings.

After kill -9 of a worker or the driver, one resumes from the last complete checkpoint to the same end.
"""

import dataclasses
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.places import PROJECT
from pipeline.store.files import read_json
from pipeline.training.checkpoints import alone, last_complete
from pipeline.training.launch import train
from pipeline.training.spec import TrainSpec
from tests.in_process import training_in_process

DRIVER = """
import pickle, sys
from pipeline import cluster
from pipeline.training.launch import train
cluster.connect()
print(train(pickle.load(open(sys.argv[1], "rb"))))
"""


def wait_for_checkpoint(work: Path, timeout: float = 120) -> int:
    """Return the step of the first complete checkpoint, as soon as there is one."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if checkpoint := last_complete(work / "checkpoints"):
            return int(checkpoint.name.rpartition("-")[2])
        time.sleep(0.02)
    raise TimeoutError(f"no checkpoint in {work} within {timeout} s")


def resumed_at(work: Path) -> list[int]:
    """Return the steps at which the log of steps goes back: where a resumed run starts."""
    steps = [orjson.loads(line)["step"] for line in (work / "progress.jsonl").read_bytes().splitlines()]
    return [b for a, b in pairwise(steps) if b != a + 1]


@pytest.mark.timeout(300)
def test_resume_after_worker_kill(local_ray: Any, make_spec: Callable[..., TrainSpec]) -> None:
    """The weights are the same bit for bit, although the kill comes in the middle of an epoch."""
    spec = make_spec(epochs=4, save_steps=5, learning_rate=1e-2)
    with training_in_process():
        undisturbed = train(dataclasses.replace(spec, work=spec.work + "-u", out=spec.out + "-u"))
    work = Path(spec.work)

    def kill() -> None:
        wait_for_checkpoint(work)
        log = (work / "logs" / "worker.0.log").read_text()
        os.kill(int(re.search(r" (\d+) pipeline\.training\.process INFO", log)[1]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    result = train(spec)
    killer.join()
    log = (work / "logs" / "worker.0.log").read_text()
    assert "starting afresh" in log and re.search(r"resuming from .*checkpoint-\d+", log)
    assert (result.steps, result.tokens, result.final_loss) == (
        undisturbed.steps,
        undisturbed.tokens,
        undisturbed.final_loss,
    )
    assert result.revision == undisturbed.revision


@pytest.mark.timeout(300)
def test_resume_after_driver_kill(
    local_ray: Any, make_spec: Callable[..., TrainSpec], tmp_path: Path
) -> None:
    """The driver has a Ray of its own, which dies with it; a torn checkpoint is ignored."""
    spec = make_spec(epochs=6, save_steps=3)
    (tmp_path / "spec.pickle").write_bytes(pickle.dumps(spec))
    work = Path(spec.work)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "spec.pickle")],
        cwd=PROJECT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        steps = wait_for_checkpoint(work)
    finally:
        driver.kill()
        driver.wait()
    assert steps >= 3 and not (work / "train.json").exists()
    with alone(work / "lock"):  # the worker outlives its driver by a moment
        torn = work / "checkpoints" / "checkpoint-9999"
        torn.mkdir()
        (torn / "trainer_state.json").write_text('{"global_st')
    with training_in_process():
        train(spec)
    assert read_json(str(work / "train.json"))["steps"] == 54
    assert re.search(r"resuming from .*checkpoint-(\d+)", (work / "logs" / "worker.0.log").read_text())
    assert all(step > steps - 1 for step in resumed_at(work))


def test_a_checkpoint_when_the_node_is_taken_away(
    make_spec: Callable[..., TrainSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, at the step at which Ray Train tells; the run says so, and goes on to the same end."""
    from pipeline.training.checkpoints import MarkComplete

    asked: list[int] = []
    saved: list[int] = []
    lines: list[dict[str, Any]] = []

    def told() -> object:
        asked.append(1)
        return object() if len(asked) >= 4 else None

    def note_step(self: MarkComplete, args: Any, state: Any, control: Any, **_: Any) -> None:
        saved.append(state.global_step)

    monkeypatch.setattr("ray.train.get_preemption_info", told)
    monkeypatch.setattr(MarkComplete, "on_save", note_step)
    with training_in_process():
        result = train(make_spec(save_steps=100), lines.append)
    assert result.steps == 9 and 4 in saved and not set(saved) & {1, 2, 3, 5, 6, 7, 8}
    noted = {line["step"]: line["note"] for line in lines if "note" in line}
    assert noted == {4: "a node is being taken away; writing a checkpoint at step 4"}
