"""Calls with a hard CPU limit: functions that some arguments keep busy forever run in a helper process.

Python cannot interrupt a call from outside, and SIGALRM works in the main thread only, where no Ray actor
runs its rows. Without a limit, one answer such as 9**9**9, which a scorer evaluates, takes a worker down.
"""

import atexit
import importlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from threading import Lock
from typing import Any

from pipeline.errors import StageError
from pipeline.retries import HELPER_ATTEMPTS

CPU_SECONDS = 3.0  # per call; CPU time and not wall time, so that a busy machine gives the same outcomes
MEMORY = 4 << 30  # bytes of address space; a huge power fails here instead of eating the machine's memory


class CallError(Exception):
    """The called function raised; `kind` is the exception's type name, or HelperDied."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


class OutOfBudgetError(CallError):
    """The call used up its CPU time."""


def call(target: str, *arguments: Any) -> Any:
    """Call the function at `target` ("module:function") with JSON `arguments`; return its JSON result.

    A function `prepare` in the same module gets the same arguments first, and its time is not counted:
    imports are slow on a cold disk. Raises OutOfBudgetError after CPU_SECONDS of work, CallError when the
    function raises or its process keeps dying, StageError when no helper starts.
    """
    return _HELPERS.setdefault(target, _Helper(target)).call(arguments)


class _Helper:
    """One process for one function. It exits when its stdin closes: a killed worker leaves nothing behind."""

    def __init__(self, target: str) -> None:
        self._target, self._lock = target, Lock()
        self._process: subprocess.Popen[str] | None = None

    def call(self, arguments: Sequence[Any]) -> Any:
        """Send one call and wait for its reply."""
        with self._lock:
            for _ in range(HELPER_ATTEMPTS):
                if line := self._exchange(json.dumps(arguments)):
                    break
                if self.stop() == -signal.SIGPROF:
                    problem = f"{self._target} took more than {CPU_SECONDS} s of CPU time"
                    raise OutOfBudgetError("OutOfBudget", problem)
            else:
                problem = f"the helper process for {self._target} died {HELPER_ATTEMPTS} times over one call"
                raise CallError("HelperDied", problem)
        reply = json.loads(line)
        if "kind" in reply:
            raise CallError(reply["kind"], reply["detail"])
        return reply["value"]

    def stop(self) -> int | None:
        """Kill the process, if there is one, and return its exit code."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.communicate()
            return process.returncode
        return None

    def _exchange(self, question: str) -> str:
        """Return the helper's reply, or '' when it died before giving one."""
        process = self._process or self._start()
        assert process.stdin and process.stdout  # they are pipes
        try:
            process.stdin.write(question + "\n")
            process.stdin.flush()
            return process.stdout.readline()
        except BrokenPipeError:
            return ""

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(p or os.getcwd() for p in sys.path)
        # One thread: BLAS reserves address space per core otherwise, which counts against MEMORY.
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-c", f"from pipeline.limited import serve; serve({self._target!r})"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            self.stop()
            raise StageError(f"the helper process for {self._target} did not start; see its output above.")
        return self._process


_HELPERS: dict[str, _Helper] = {}


@atexit.register
def _stop_all() -> None:
    for helper in _HELPERS.values():
        helper.stop()


def serve(target: str) -> None:
    """Run as a helper until stdin closes: a line of arguments in, {"value"} or {"kind", "detail"} out."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent; a closed stdin ends the helper
    logging.disable()
    out, sys.stdout = sys.stdout, sys.stderr  # what the function prints must not mix with replies
    module, _, name = target.partition(":")
    target_module = importlib.import_module(module)
    function, prepare = getattr(target_module, name), getattr(target_module, "prepare", None)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            if prepare:
                prepare(*arguments)
            # SIGPROF ends the process by default, inside a long C call as well
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            reply = json.dumps({"value": function(*arguments)})
        except Exception as e:  # any function, any argument: the error is the reply, and the caller raises it
            reply = json.dumps({"kind": type(e).__name__, "detail": str(e)[:2000]})
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(reply, file=out, flush=True)
