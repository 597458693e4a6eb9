"""Calls with a limit that holds: functions that some arguments keep busy for ever run in a helper process.

Python cannot interrupt a call from outside, and SIGALRM, which math-verify uses, works in the main thread only, where no Ray
actor runs its rows. Without a limit one answer such as 9^{999999999} takes a stage worker down.
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

CPU_SECONDS = 3.0  # per call; CPU time and not wall time, so that a busy machine gives the same outcomes
ATTEMPTS = 2  # a helper that something else killed is replaced, so that its death changes no verdict
MEMORY = 4 << 30  # bytes of address space; a huge power fails here rather than eat the machine


class CallError(Exception):
    """The called function raised; `kind` is the name of the exception's type, or HelperDied."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


class OutOfBudgetError(CallError):
    """The call took more CPU time than it may."""


def call(target: str, *arguments: Any) -> Any:
    """Return what the function at `target` ("module:function") gives for JSON `arguments`; its value is JSON as well.

    What the module's `prepare` does with the same arguments, where it has such a function, is not counted: imports are slow on a cold disk.
    Raises OutOfBudgetError after CPU_SECONDS of work, CallError when the function raises or its process dies again and again,
    StageError when no helper starts.
    """
    return _HELPERS.setdefault(target, _Helper(target)).call(arguments)


class _Helper:
    """One process for one function. It ends by itself when its input is closed, so a killed worker leaves nothing behind."""

    def __init__(self, target: str) -> None:
        self._target, self._lock = target, Lock()
        self._process: subprocess.Popen[str] | None = None

    def call(self, arguments: Sequence[Any]) -> Any:
        """Send one call and wait for its end."""
        with self._lock:
            for _ in range(ATTEMPTS):
                if line := self._exchange(json.dumps(arguments)):
                    break
                if self.stop() == -signal.SIGPROF:
                    raise OutOfBudgetError(
                        "OutOfBudget", f"{self._target} took more than {CPU_SECONDS} s of CPU time"
                    )
            else:
                raise CallError(
                    "HelperDied", f"the helper process for {self._target} died {ATTEMPTS} times over one call"
                )
        reply = json.loads(line)
        if "kind" in reply:
            raise CallError(reply["kind"], reply["detail"])
        return reply["value"]

    def stop(self) -> int | None:
        """End the process, if there is one, and return its exit code."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.communicate()
            return process.returncode
        return None

    def _exchange(self, question: str) -> str:
        """Return the helper's reply, '' when it died over the question or before it."""
        process = self._process or self._start()
        try:
            process.stdin.write(question + "\n")
            process.stdin.flush()
            return process.stdout.readline()
        except BrokenPipeError:
            return ""

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(p or os.getcwd() for p in sys.path)
        # One thread: BLAS would else take address space for every core, which counts against MEMORY.
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-c", f"from pipeline.limited import serve; serve({self._target!r})"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        if self._process.stdout.readline() != "ready\n":
            self.stop()
            raise StageError(f"the helper process for {self._target} did not start: see what it wrote above.")
        return self._process


_HELPERS: dict[str, _Helper] = {}


@atexit.register
def _stop_all() -> None:
    for helper in _HELPERS.values():
        helper.stop()


def serve(target: str) -> None:
    """Be a helper until the input is closed: for each line of arguments write {"value": ...} or {"kind": ..., "detail": ...}."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the parent; the end of the input is the sign to leave
    logging.disable()
    out, sys.stdout = sys.stdout, sys.stderr  # what the function prints is no reply
    module, _, name = target.partition(":")
    target_module = importlib.import_module(module)
    function, prepare = getattr(target_module, name), getattr(target_module, "prepare", None)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(
        resource.RLIMIT_AS, (MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard), hard)
    )
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            if prepare:
                prepare(*arguments)
            signal.setitimer(
                signal.ITIMER_PROF, CPU_SECONDS
            )  # SIGPROF ends the process by default, also inside a long C call
            reply = json.dumps({"value": function(*arguments)})
        except Exception as e:  # any function, any argument: the error is the reply, and the caller raises it
            reply = json.dumps({"kind": type(e).__name__, "detail": str(e)[:2000]})
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(reply, file=out, flush=True)
