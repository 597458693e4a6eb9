"""kill -9 of the driver in the middle of a real vLLM run, then the same command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.places import PROJECT
from pipeline.rundir import RunDir
from pipeline.store import request_log

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(500)]
ROWS, IN_FLIGHT = 60, 8
MARK = "SELFLOOP_TEST_KILL_VLLM"


def marked(mark: str) -> list[int]:
    """Ids of the processes that carry `mark` in their environment, zombies left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def left_behind(mark: str, seconds: float = 30) -> list[str]:
    """Command lines of the marked processes that have not ended `seconds` from now: Ray's own end a moment after their driver."""
    end = time.monotonic() + seconds
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.5)
    lines = []
    for pid in marked(mark):
        try:
            lines.append(f"{pid}: {' '.join(psutil.Process(pid).cmdline())}")
        except psutil.Error:
            continue
    return lines


def test_the_same_command_goes_on_and_no_process_is_left(tmp_path: Path) -> None:
    tasks = [{"question": f"Write one sentence about the number {i}.", "answer": i} for i in range(ROWS + 1)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tasks))
    engine = {"kind": "vllm", "args": {"max_model_len": 256, "max_num_seqs": IN_FLIGHT}}
    recipe = {
        "name": "killed",
        "engine": engine,
        "tasks": {"source": "jsonl", "path": str(tmp_path / "tasks.jsonl")},
        "held_out": {"count": 1},
        "sampling": {"max_tokens": 24},
        "method": {"name": "direct", "samples": 1},
        "runner": {"in_flight": IN_FLIGHT, "part_rows": 10},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run = RunDir(tmp_path / "run")
    folder = run.stage(1, "generate")
    command = [
        sys.executable,
        "-m",
        "jobs.generate",
        "--run",
        run.root,
        "--round",
        "1",
        "--recipe",
        str(tmp_path / "recipe.yaml"),
    ]
    environment = {**os.environ, MARK: tmp_path.name, "PYTHONPATH": str(PROJECT)}

    driver = subprocess.Popen(
        command, env=environment, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while sum(1 for _ in request_log.records(f"{folder}/requests")) < ROWS // 3:
        assert driver.poll() is None, "the driver ended before it could be killed"
        time.sleep(0.2)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert left_behind(tmp_path.name) == []
    assert run.manifest(folder) is None

    finished = {r["key"] for r in request_log.records(f"{folder}/requests")}
    done = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    manifest, logged = run.manifest(folder), [r["key"] for r in request_log.records(f"{folder}/requests")]
    expected = {row.child("generate", "1/0").id for row in run.rows(run.tasks("train"))}
    assert {row.id for row in run.rows(folder)} == expected and manifest.rows_out == ROWS
    assert len(logged) == len(set(logged)) and finished < set(logged), "no finished request was sent again"
    assert left_behind(tmp_path.name) == []
