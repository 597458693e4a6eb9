"""After kill -9 of a worker or the driver, training resumes from the last complete checkpoint to the same end."""

import dataclasses
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from pipeline.store.files import read_json
from pipeline.training.checkpoints import last_complete
from pipeline.training.launch import train

ROOT = Path(__file__).resolve().parents[2]
DRIVER = """
import pickle, sys
from pipeline import cluster
from pipeline.training.launch import train
cluster.connect()
print(train(pickle.load(open(sys.argv[1], "rb"))))
"""


def wait_for_checkpoint(work: Path, timeout: float = 120) -> int:
    """Return the steps of the first complete checkpoint, as soon as there is one."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if found := last_complete(work / "checkpoints"):
            return int(found.name.rpartition("-")[2])
        time.sleep(0.02)
    raise TimeoutError(f"no checkpoint in {work} within {timeout} s")


def resumed_at(work: Path) -> list[int]:
    """Return the steps at which the log of steps goes back: what a resumed run starts with."""
    steps = [orjson.loads(line)["step"] for line in (work / "progress.jsonl").read_bytes().splitlines()]
    return [b for a, b in pairwise(steps) if b != a + 1]


@pytest.mark.timeout(300)
def test_a_killed_worker_changes_nothing_in_the_end(local_ray, make_spec):
    spec = make_spec(epochs=4, save_steps=5, learning_rate=1e-2)
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
    assert (
        result.revision == undisturbed.revision
    )  # the same weights, bit for bit: in the middle of an epoch, too


@pytest.mark.timeout(300)
def test_the_same_command_after_kill_9_of_the_driver(make_spec, tmp_path):
    spec = make_spec(epochs=10, save_steps=3)
    (tmp_path / "spec.pickle").write_bytes(pickle.dumps(spec))
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "spec.pickle")]
    work = Path(spec.work)
    first = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        steps = wait_for_checkpoint(work)
    finally:
        first.kill()
        first.wait()
    assert steps >= 3 and not (work / "train.json").exists()
    torn = work / "checkpoints" / "checkpoint-9999"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_st')
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert second.returncode == 0, second.stderr[-3000:]
    done = read_json(str(work / "train.json"))
    assert done["steps"] == 90
    assert re.search(r"resuming from .*checkpoint-(\d+)", (work / "logs" / "worker.0.log").read_text())
    assert all(step > steps - 1 for step in resumed_at(work))
