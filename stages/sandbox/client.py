"""Hands jobs to sandbox processes: one per core, started on first use, replaced when they die."""

import atexit
import functools
import json
import os
import queue
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import ConfigError, StageError

_SERVER = Path(__file__).with_name("server.py")
_ATTEMPTS = 2
MEANS = "user, mount, process, network and IPC namespaces, a read-only root, seccomp, resource limits"
ADVICE = (
    "Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or a container with --security-opt "
    "seccomp=unconfined), or accept the risk with SELFLOOP_UNISOLATED=1."
)
NO_ISOLATION = f"this machine gives no isolation for model-written programs ({{problem}}). {ADVICE}"


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    seconds: float = 10.0
    """Wall time, of all tests together or of one run with its input."""
    cpu_seconds: int = 8
    memory: int = 1 << 30
    """Bytes of address space."""
    output: int = 1 << 20
    """Bytes it may print."""


@dataclass(frozen=True)
class Job:
    """A program and its tests, of which exactly one kind is given."""

    code: str
    asserts: str | None = None
    """Test code; a function `check(candidate)` in it is called with the entry point."""
    calls: list[dict[str, Any]] | None = None
    """Cases {input: arguments, output: value} for the entry point."""
    streams: list[dict[str, str]] | None = None
    """Cases {input, output}: standard input and what is printed for it, compared by words."""
    entry_point: str = ""
    limits: Limits = field(default_factory=Limits)

    def to_json(self) -> str:
        """Return the job as one line."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None})


class Outcome(NamedTuple):
    """How many of the tests passed, and what the first failed one says ("" if none failed)."""

    passed: int
    total: int
    error: str
    timeout: bool = False


class Sandbox:
    """Sandbox processes for this process. Thread-safe: a call waits for a free one."""

    def __init__(self, unisolated: bool = False, size: int | None = None) -> None:
        """`unisolated` runs programs where the kernel grants no namespaces, with the rights of this user."""
        self._unisolated = unisolated
        self._free: queue.SimpleQueue[subprocess.Popen[str] | None] = queue.SimpleQueue()
        self._size = size or len(os.sched_getaffinity(0))
        for _ in range(self._size):
            self._free.put(None)

    def run(self, job: Job) -> Outcome:
        """Run one program against its tests. Raises ConfigError where it cannot be isolated."""
        process = self._free.get()
        try:
            for _ in range(_ATTEMPTS):
                process = process or self._start()
                if reply := _exchange(process, job.to_json()):
                    return Outcome(**json.loads(reply))
                _stop(process)
                process = None
        finally:
            self._free.put(process)
        raise StageError(f"the sandbox process died {_ATTEMPTS} times over one program")

    def close(self) -> None:
        """End the sandbox processes. Waits for programs that are running; the next `run` starts new ones."""
        for _ in range(self._size):
            if process := self._free.get():
                _stop(process)
        for _ in range(self._size):
            self._free.put(None)

    def _start(self) -> subprocess.Popen[str]:
        process, problem = _server()
        if problem and not self._unisolated:
            _stop(process)
            raise ConfigError(NO_ISOLATION.format(problem=problem))
        _PROCESSES.append(process)
        return process


@functools.cache
def isolation_problem() -> str:
    """Return why this machine isolates no programs; "" if it does."""
    process, problem = _server()
    _stop(process)
    return problem


_PROCESSES: list["subprocess.Popen[str]"] = []


def _server() -> "tuple[subprocess.Popen[str], str]":
    """Start a sandbox process; return it, and why it isolates nothing ("" if it does)."""
    command = [sys.executable, "-I", str(_SERVER)]
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}  # no secrets of ours
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd="/"
    )
    assert process.stdout  # a pipe
    hello = json.loads(process.stdout.readline() or "{}")
    isolated, problem = hello.get("isolated"), hello.get("problem")
    return process, "" if isolated else problem or "the sandbox process did not start"


def _exchange(process: "subprocess.Popen[str]", line: str) -> str:
    assert process.stdin and process.stdout
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return process.stdout.readline()
    except (BrokenPipeError, ValueError):
        return ""


def _stop(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()
    if process in _PROCESSES:
        _PROCESSES.remove(process)


@atexit.register
def _stop_all() -> None:
    for process in list(_PROCESSES):
        _stop(process)
