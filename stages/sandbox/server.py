"""The sandbox's own process: python -I server.py. Standard library alone; a line of JSON per job.

It puts itself into namespaces of its own (no network, a file system of the Python library and nothing else),
and forks two processes for each job: the program, and its tests, each with its own process namespace, scratch
folder and limits. Forking spares every program the start of an interpreter.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
import time
import types
from collections.abc import Callable
from typing import Any

# The packages themselves import all of selfloop; here they are names for their folders.
for name, folder in (("stages", ".."), ("stages.sandbox", ".")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [os.path.join(os.path.dirname(os.path.abspath(__file__)), folder)]

from stages.sandbox import isolation, program, tests, wire  # noqa: E402

SCRATCH_MIB = 16
_PRELOADED = (
    "bisect",
    "collections",
    "functools",
    "heapq",
    "itertools",
    "math",
    "random",
    "re",
    "string",
    "typing",
)


def isolate() -> int:
    """Enter the namespaces; return a descriptor of the process namespace to fork from. Raises OSError.

    Returns in a child, the first process of that namespace, which the kernel kills with its parent.
    """
    if not isolation.supported():
        raise OSError("not Linux on x86_64 or aarch64")
    isolation.new_user()
    new = isolation.NEW_MOUNTS | isolation.NEW_NETWORK | isolation.NEW_IPC | isolation.NEW_UTS
    isolation.unshare(new | isolation.NEW_PIDS)
    if child := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256)
    pids = os.open("/proc/self/ns/pid", os.O_RDONLY)
    visible = {
        path: os.open(path, os.O_PATH) for path in _library()
    }  # nobody may not be allowed to walk there
    isolation.become_inside()
    places = (p for p in ("/mnt", "/media", "/srv", "/tmp") if os.path.isdir(p))
    root = next(p for p in places if not any(shown.startswith(f"{p}/") for shown in visible))
    isolation.new_root(root, visible)
    return pids


def _library() -> list[str]:
    """Return the folders that a Python program needs to see: the standard library and shared libraries."""
    folders = [os.path.dirname(os.path.realpath(os.__file__)), "/lib", "/lib64", "/usr/lib"]
    real = {path for path in folders if os.path.isdir(path)}
    return sorted(p for p in real if not any(p != q and p.startswith(f"{q}/") for q in real))


class Child:
    """One sandboxed process, and the pipe with what it printed."""

    def __init__(
        self,
        pids: int | None,
        limits: dict[str, Any],
        body: Callable[[], None],
        stdin: bytes = b"",
        scratch: bool = True,
    ) -> None:
        self.output = b""
        self._limit = limits["output"]
        self.reader, writer = os.pipe()
        if pids is not None:
            isolation.enter(pids)
            isolation.unshare(isolation.NEW_PIDS)
        self.pid = os.fork()
        if self.pid == 0:
            _become(body, writer, stdin, limits, pids is not None, scratch)
        os.close(writer)

    def read(self) -> bool:
        """Read what has been printed; False when it is at its end, or more than the limit."""
        data = os.read(self.reader, 1 << 16)
        self.output += data
        return bool(data) and len(self.output) <= self._limit

    def end(self) -> int:
        """Kill the process, and with it all in its process namespace; return its wait status."""
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.reader)
        return os.waitpid(self.pid, 0)[1]


def _become(
    body: Callable[[], None], writer: int, stdin: bytes, limits: dict[str, Any], isolated: bool, scratch: bool
) -> None:
    status = 1
    try:
        reader = _file_with(stdin)
        for target, source in ((0, reader), (1, writer), (2, writer)):
            os.dup2(source, target)
        if isolated:
            if scratch:
                isolation.new_scratch(SCRATCH_MIB)
            isolation.lock_down(limits["cpu_seconds"], limits["memory"])
        body()
        status = 0
    except BaseException as e:
        os.write(2, program.describe(e).encode()[:2000])
    finally:
        os._exit(status)


def _file_with(data: bytes) -> int:
    number = os.memfd_create("stdin")
    os.write(number, data)
    os.lseek(number, 0, os.SEEK_SET)
    return number


def run(job: dict[str, Any], pids: int | None) -> dict[str, Any]:
    """Run one job: {code, asserts | calls | streams, entry_point, limits}."""
    return _run_streams(job, pids) if "streams" in job else _run_tests(job, pids)


def _run_tests(job: dict[str, Any], pids: int | None) -> dict[str, Any]:
    ours, theirs = socket.socketpair()
    limits = job["limits"]

    def serve() -> None:
        _keep_only(theirs.fileno())
        program.serve(job["code"], theirs)

    def check() -> None:
        _keep_only(ours.fileno())
        cases = tests.Cases()
        try:
            connected = tests.Program(ours)
            if "calls" in job:
                tests.run_calls(job["calls"], job["entry_point"], connected, cases)
            else:
                tests.run_asserts(job["asserts"], job["entry_point"], connected, cases)
        except tests.ProgramGoneError as e:
            cases.total += 1
            cases.error = cases.error or str(e)
        except wire.NotPlainError as e:
            cases.error = f"unsupported: {e}"
        os.write(1, b"\0" + json.dumps(cases.report()).encode())

    children = [Child(pids, limits, serve), Child(pids, limits, check, scratch=False)]
    ours.close()
    theirs.close()
    try:
        late = _wait(children, limits["seconds"], until=children[1])
    finally:
        for child in children:
            child.end()
    _, found, report = children[1].output.rpartition(b"\0")
    if found:
        return json.loads(report) | {"timeout": False}
    error = (
        "time limit" if late else children[1].output.decode(errors="replace")[:500] or "the tests were killed"
    )
    return {"passed": 0, "total": 1, "error": error, "timeout": late}


def _run_streams(job: dict[str, Any], pids: int | None) -> dict[str, Any]:
    limits, passed, error, late = job["limits"], 0, "", False
    for stream in job["streams"]:

        def body() -> None:
            _keep_only()
            program.run(job["code"])

        child = Child(pids, limits, body, stream["input"].encode())
        timeout = _wait([child], limits["seconds"], until=child)
        over = len(child.output) > limits["output"]
        status = child.end()
        printed = child.output.decode(errors="replace")
        wrong = "time limit" if timeout else "too much output" if over else printed[-500:] if status else ""
        if not wrong and printed.split() != stream["output"].split():
            wrong = f"printed {printed[:200]!r}, expected {stream['output'][:200]!r}"
        passed, error, late = passed + (not wrong), error or wrong, late or timeout
    return {"passed": passed, "total": len(job["streams"]), "error": error, "timeout": late}


def _wait(children: list[Child], seconds: float, until: Child) -> bool:
    """Read what the children print until `until` closes its output; tell whether the time ran out first."""
    end, open_ = time.monotonic() + seconds, {child.reader: child for child in children}
    while until.reader in open_:
        ready, _, _ = select.select(list(open_), [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return True
        for reader in ready:
            if not open_[reader].read():
                del open_[reader]
    return False


def _keep_only(*numbers: int) -> None:
    """Close every descriptor but the standard streams and `numbers`."""
    keep = sorted({0, 1, 2, *numbers})
    for low, high in zip(keep, [*keep[1:], 4096], strict=True):
        os.closerange(low + 1, high)


def main() -> None:
    """Isolate, say how, and answer jobs until stdin closes."""
    for module in _PRELOADED:
        __import__(module)
    gc.collect()
    gc.freeze()  # the forks then share these objects' memory
    jobs, replies = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    os.dup2(os.open("/dev/null", os.O_RDWR), 0)
    pids, problem = None, ""
    try:
        pids = isolate()
    except OSError as e:
        problem = str(e)
    print(json.dumps({"isolated": pids is not None, "problem": problem}), file=replies, flush=True)
    for line in jobs:
        print(json.dumps(run(json.loads(line), pids)), file=replies, flush=True)


if __name__ == "__main__":
    main()
