"""`ray job submit` on a running cluster: stages as jobs, then the loop, as the documentation has it."""

import json
import os
import shlex
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
RAY = str(Path(sys.executable).parent / "ray")
AGENT_SECONDS = 90.0


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A head node of its own; yields the environment to reach it.

    Token authentication is on, as Ray has it by default.
    """
    home = tmp_path_factory.mktemp("home")
    port, dashboard, agent = free_port(), free_port(), free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") and k != "PYTHONPATH"}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "HF_HUB_OFFLINE": "1",
        "RAY_AUTH_TOKEN_PATH": str(home / "token"),
    }
    (home / "token").write_text("a-token-for-this-test-only-0123456789")
    # It holds Ray's sockets, and the path of a socket has at most 107 characters.
    short = tempfile.mkdtemp(prefix="ray-")
    command = [
        RAY,
        "start",
        "--head",
        "--block",
        f"--temp-dir={short}",
        "--num-cpus=2",
        "--disable-usage-stats",
    ]
    command += [f"--port={port}", f"--dashboard-port={dashboard}"]
    # The agent that starts jobs has a default port too: with another Ray's agent there, no job could be
    # submitted.
    command += [f"--dashboard-agent-listen-port={agent}"]
    with open(home / "head.log", "w") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    environment["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
    try:
        end = time.monotonic() + AGENT_SECONDS
        while not listens(dashboard):
            assert head.poll() is None and time.monotonic() < end, (home / "head.log").read_text()
            time.sleep(0.2)
        yield environment
    finally:
        for process in [
            *psutil.Process(head.pid).children(recursive=True),
            head,
        ]:  # ray stop takes half a minute
            with suppress(psutil.NoSuchProcess):
                process.kill()
        head.wait(60)
        shutil.rmtree(short, ignore_errors=True)


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def submit(cluster: dict[str, str], *entrypoint: str) -> subprocess.CompletedProcess[str]:
    command = [RAY, "job", "submit", "--working-dir", str(PROJECT), "--", *entrypoint]
    end = time.monotonic() + AGENT_SECONDS
    while True:
        done = subprocess.run(command, env=cluster, capture_output=True, text=True, timeout=300, cwd=PROJECT)
        # A head node that answers may still be without the agent that starts jobs.
        if "No available agent" not in done.stdout + done.stderr or time.monotonic() > end:
            return done
        time.sleep(1)


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


def test_stage_jobs_then_loop(cluster: dict[str, str], recipe: Path, tmp_path: Path) -> None:
    """A stage as one job, further ones in a second job, and the loop, which continues from them."""
    run = tmp_path / "run"

    def stage(name: str) -> list[str]:
        arguments = ["--run", str(run), "--round", "1", "--recipe", str(recipe)]
        return [sys.executable, "-m", f"jobs.{name}", *arguments]

    further = " && ".join(shlex.join(stage(name)) for name in ("critique", "filter", "verify"))
    for names, entrypoint in (
        (["generate"], stage("generate")),
        (["critique", "filter", "verify"], ["sh", "-c", further]),
    ):
        done = submit(cluster, *entrypoint)
        assert done.returncode == 0, done.stdout + done.stderr
        assert all(f"round 1, {name}: " in done.stdout for name in names), done.stdout
    before = {s: RunDir(run).manifest(RunDir(run).stage(1, s)) for s in ("generate", "verify")}
    done = submit(cluster, sys.executable, "-m", "jobs.iterate", str(recipe), "--run", str(run))
    assert done.returncode == 0, done.stdout + done.stderr
    assert before == {s: RunDir(run).manifest(RunDir(run).stage(1, s)) for s in ("generate", "verify")}, (
        "stages that were done are left as they are"
    )
    assert json.loads((run / "evaluation" / "round-001.json").read_text())["n"] == 20
    assert "held-out accuracy, n = 20" in done.stdout


def test_run_inside_uploaded_directory_refused(cluster: dict[str, str], recipe: Path) -> None:
    command = [sys.executable, "-m", "jobs.generate", "--run", "data/runs/lost", "--round", "1"]
    done = submit(cluster, *command, "--recipe", str(recipe))
    assert done.returncode != 0
    assert "removed with the job" in done.stdout
    assert "Traceback" not in done.stdout
