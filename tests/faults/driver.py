"""`python -m jobs.generate`, or another stage's job, as a process of its own, to be killed.

The same command in this process then finishes the run.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import ray
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.places import PROJECT
from pipeline.rundir import RunDir
from pipeline.store import request_log

MARK = "SELFLOOP_FAULT_TEST"

# Helpers of the raylet that look for their dead head for up to a minute before they end. They write nothing
# of ours.
RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray-dashboard")

START_SECONDS = 300.0  # of a vLLM engine on a busy machine

Condition = Callable[[Path], bool]


def marked(mark: str) -> list[psutil.Process]:
    """The living processes with `mark` in their environment, without Ray's agents.

    What a marked process starts, however indirectly, inherits the mark.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = " ".join(process.cmdline()[:1])
            if (
                process.environ().get(MARK) == mark
                and process.status() != psutil.STATUS_ZOMBIE
                and not command.startswith(RAY_AGENTS)
            ):
                found.append(process)
    return found


def stage_workers() -> list[psutil.Process]:
    """The stage workers that run in this process's Ray."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.name().startswith("ray::StageWork"):
                found.append(process)
    return found


def kill_all(mark: str) -> None:
    """Kill what a driver has started."""
    for process in [*marked(mark), *stage_workers()]:
        with suppress(psutil.Error):
            process.kill()


def nothing_left(mark: str, seconds: float = 60) -> None:
    """Wait until everything that a driver has started has ended, its own Ray included.

    Fails after `seconds`.
    """
    end = time.monotonic() + seconds
    while left := [*marked(mark), *stage_workers()]:
        assert time.monotonic() < end, left
        time.sleep(0.1)


class Driver:
    """Starts `python -m jobs.<job>` on one run, kills it, and finishes the run."""

    def __init__(self, folder: Path, name: str, job: str = "generate") -> None:
        self.run, self.mark, self._folder = RunDir(folder / name), f"{os.getpid()}-{name}", folder
        self.stage, self._job = Path(self.run.stage(1, job)), job
        self._arguments = ["--run", self.run.root, "--round", "1", "--recipe", str(folder / "r.yaml")]

    def start(self, own_ray: bool = False, **environment: str) -> subprocess.Popen[bytes]:
        """Start the command, on this process's Ray or on one of its own (several seconds more)."""
        env = dict(os.environ)  # of which a local Ray has set a few, its token among them
        if own_ray:
            env = {k: v for k, v in env.items() if not k.startswith("RAY_")}
        else:
            env["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        with open(self._folder / f"{self.mark}.out", "ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", f"jobs.{self._job}", *self._arguments],
                cwd=PROJECT,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**env, MARK: self.mark, "HF_HUB_OFFLINE": "1", **environment},
            )

    def start_until(
        self, condition: Condition, own_ray: bool = False, **environment: str
    ) -> subprocess.Popen[bytes] | None:
        """Start the command and return when the condition holds; None when the command ended before."""
        process = self.start(own_ray, **environment)
        end = time.monotonic() + START_SECONDS
        while not condition(self.stage):
            if process.poll() is not None:
                return None
            assert time.monotonic() < end, self.output()
            time.sleep(0.005)
        return process

    def kill_when(self, condition: Condition, workers: bool = False, own_ray: bool = False) -> bool:
        """Start, and kill when the condition holds, with `workers` all that it has started.

        Returns False when it ended before.
        """
        process = self.start_until(condition, own_ray)
        if process is None:
            return False
        os.kill(process.pid, signal.SIGKILL)
        if workers:
            kill_all(self.mark)
        return process.wait() == -signal.SIGKILL

    def finish(self, *options: str, job: str = "") -> None:
        """Run the command in this process, on the Ray it is connected to.

        That saves the seconds that a start takes.
        """
        done = CliRunner().invoke(app, [job or self._job, *self._arguments, *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output

    def nothing_left(self) -> None:
        nothing_left(self.mark)

    def output(self) -> str:
        return (self._folder / f"{self.mark}.out").read_text()

    def ids(self) -> list[str]:
        return sorted(row.id for row in self.run.rows(str(self.stage)))

    def log(self) -> Counter[str]:
        return Counter(r["key"] for r in request_log.records(str(self.stage / "requests")))


def logged(stage: Path) -> int:
    """Finished requests in the logs of a stage."""
    return sum(f.read_bytes().count(b"\n") for f in stage.glob("requests/*.jsonl"))
