"""`ray job submit` on a running cluster: one job per stage, then the loop, as the README tells people to do it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.places import PROJECT
from pipeline.rundir import RunDir

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(550)]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A head node of its own, with token authentication on as Ray has it by default; yields the environment to reach it."""
    home = tmp_path_factory.mktemp("home")
    port, dashboard, agent = free_port(), free_port(), free_port()
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "PYTHONPATH")}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "HF_HUB_OFFLINE": "1",
        "RAY_AUTH_TOKEN_PATH": str(home / "token"),
    }
    (home / "token").write_text("a-token-for-this-test-only-0123456789")
    ray = str(Path(sys.executable).parent / "ray")
    short = tempfile.mkdtemp(
        prefix="ray-"
    )  # Ray's sockets are in it, and a socket's path has at most 107 characters
    command = [
        ray,
        "start",
        "--head",
        "--block",
        f"--temp-dir={short}",
        f"--port={port}",
        f"--dashboard-port={dashboard}",
    ]
    # A port of its own for the agent that starts jobs too: any other Ray on this machine has the default one, and then no job can be submitted.
    command += [f"--dashboard-agent-listen-port={agent}", "--num-cpus=2", "--disable-usage-stats"]
    with open(home / "head.log", "w") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    environment["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
    try:
        for _ in range(60):
            if subprocess.run([ray, "job", "list"], env=environment, capture_output=True).returncode == 0:
                break
            assert head.poll() is None, (home / "head.log").read_text()
            time.sleep(1)
        yield environment
    finally:
        for process in [
            *psutil.Process(head.pid).children(recursive=True),
            head,
        ]:  # its own orderly end takes half a minute
            with suppress(psutil.NoSuchProcess):
                process.kill()
        head.wait(60)
        shutil.rmtree(short, ignore_errors=True)


def submit(cluster: dict[str, str], *entrypoint: str) -> subprocess.CompletedProcess[str]:
    ray = str(Path(sys.executable).parent / "ray")
    command = [ray, "job", "submit", "--working-dir", str(PROJECT), "--", sys.executable, "-m", *entrypoint]
    end = time.monotonic() + 90
    while True:
        done = subprocess.run(command, env=cluster, capture_output=True, text=True, timeout=300, cwd=PROJECT)
        # A head node that answers may still be without the agent that starts jobs.
        if "No available agent" not in done.stdout + done.stderr or time.monotonic() > end:
            return done
        time.sleep(2)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    with open(folder / "tasks.jsonl", "w") as f:
        f.writelines(
            json.dumps({"question": f"What is {i} + {i % 7}?", "answer": i + i % 7}) + "\n"
            for i in range(120)
        )
    (folder / "recipe.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "submitted",
                "rounds": 1,
                "model": {"base": str(tiny_model)},
                "engine": {"kind": "scripted", "answers": "tests.scripted_answers:sums"},
                "tasks": {"source": "jsonl", "path": str(folder / "tasks.jsonl")},
                "held_out": {"count": 20},
                "train": {"max_steps": 1, "batch_size": 2},
            }
        )
    )
    return folder / "recipe.yaml"


def test_every_stage_is_a_job_and_the_loop_goes_on_from_them(
    cluster: dict[str, str], recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for stage in ("generate", "critique", "filter", "verify"):
        done = submit(cluster, f"jobs.{stage}", "--run", str(run), "--round", "1", "--recipe", str(recipe))
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"round 1, {stage}: " in done.stdout
    before = {s: RunDir(run).manifest(RunDir(run).stage(1, s)) for s in ("generate", "verify")}
    done = submit(cluster, "jobs.iterate", str(recipe), "--run", str(run))
    assert done.returncode == 0, done.stdout + done.stderr
    assert before == {s: RunDir(run).manifest(RunDir(run).stage(1, s)) for s in ("generate", "verify")}, (
        "stages that were done are left as they are"
    )
    assert json.loads((run / "evaluation" / "round-001.json").read_text())["n"] == 20
    assert "held-out accuracy, n = 20" in done.stdout


def test_a_run_inside_the_uploaded_working_directory_is_refused(
    cluster: dict[str, str], recipe: Path
) -> None:
    done = submit(
        cluster, "jobs.generate", "--run", "data/runs/lost", "--round", "1", "--recipe", str(recipe)
    )
    assert done.returncode != 0
    assert "removed with the job" in done.stdout
    assert "Traceback" not in done.stdout
