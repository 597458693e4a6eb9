"""`python -m jobs.generate` as a process of its own, to be killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pipeline.places import PROJECT
from pipeline.rundir import RunDir
from pipeline.store import request_log

MARK = "SELFLOOP_FAULT_TEST"

# Helpers of the raylet, which look for their dead head for up to a minute before they end. They write nothing of ours.
RAY_AGENTS = (b"ray::DashboardAgent", b"ray::RuntimeEnvAgent", b"ray-dashboard")

Condition = Callable[[Path], bool]


def marked(mark: str) -> list[int]:
    """The processes that were started, however indirectly, with `mark` in their environment, and are not yet gone."""
    found = []
    for pid in (int(p) for p in os.listdir("/proc") if p.isdigit()):
        try:
            environment, command = (
                Path(f"/proc/{pid}/{file}").read_bytes() for file in ("environ", "cmdline")
            )
            if f"{MARK}={mark}".encode() in environment.split(b"\0") and not command.startswith(RAY_AGENTS):
                found.append(pid)
        except OSError:
            continue
    return found


class Driver:
    """Starts `python -m jobs.generate` on one run, and kills it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.run, self.mark, self._folder = RunDir(folder / name), f"{os.getpid()}-{name}", folder
        self.stage = Path(self.run.stage(1, "generate"))

    def start(self, *options: str) -> subprocess.Popen:
        env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        command = [
            sys.executable,
            "-m",
            "jobs.generate",
            "--run",
            self.run.root,
            "--round",
            "1",
            "--recipe",
            str(self._folder / "r.yaml"),
            *options,
        ]
        with open(self._folder / f"{self.mark}.out", "ab") as out:
            return subprocess.Popen(
                command,
                cwd=PROJECT,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**env, MARK: self.mark, "HF_HUB_OFFLINE": "1"},
            )

    def finish(self, *options: str) -> None:
        assert self.start(*options).wait(240) == 0, self.output()

    def kill_when(self, condition: Condition, workers: bool = False) -> bool:
        """Start, and kill when the condition holds, on demand with all that it has started. Returns False when the driver had ended by then."""
        process = self.start()
        end = time.monotonic() + 120
        while process.poll() is None and not condition(self.stage):
            assert time.monotonic() < end, self.output()
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        for pid in marked(self.mark) if workers else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return process.wait() == -signal.SIGKILL

    def nothing_is_left(self) -> None:
        """Wait until all that the driver started is gone, the raylet and its workers included."""
        end = time.monotonic() + 60
        while left := marked(self.mark):
            assert time.monotonic() < end, [
                Path(f"/proc/{p}/cmdline").read_bytes().replace(b"\0", b" ")[:120]
                for p in left
                if Path(f"/proc/{p}").exists()
            ]
            time.sleep(0.1)

    def output(self) -> str:
        return (self._folder / f"{self.mark}.out").read_text()[-3000:]

    def ids(self) -> list[str]:
        return sorted(row.id for row in self.run.rows(str(self.stage)))

    def log(self) -> Counter[str]:
        return Counter(r["key"] for r in request_log.records(str(self.stage / "requests")))


def logged(stage: Path) -> int:
    """Finished requests in the logs of a stage."""
    return sum(f.read_bytes().count(b"\n") for f in stage.glob("requests/*.jsonl"))
