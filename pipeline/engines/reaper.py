"""Ends the processes an engine leaves behind. vLLM's EngineCore and Worker processes outlive a killed parent and spin.

A small process is started beside the engine. It watches the owner, and a pipe whose write end the owner has; when the
owner ends, in whatever way, or closes the pipe, the reaper kills every process that carries the owner's mark in its
environment. Children inherit the environment, so none can be missed, however late or deep it was started.
"""

import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

MARK = "SELFLOOP_ENGINE"


class Reaper:
    """Marks this process's environment and starts the reaper. Processes started from now on are owned."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        os.environ[MARK] = self.mark
        read, self._write = (
            os.pipe()
        )  # not inherited by programs started later, but by children that are only forked
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", os.path.abspath(__file__), self.mark, str(os.getpid())],
            stdin=read,
            start_new_session=True,  # a Ctrl-C in the terminal, or a kill of the group, must not end it
            env={k: v for k, v in os.environ.items() if k != MARK},
        )
        os.close(read)

    def end(self, seconds: float = 10) -> None:
        """Kill what was started under the mark, and wait until it is gone."""
        os.close(self._write)
        self._process.wait(seconds)
        os.environ.pop(MARK, None)


def owned(mark: str) -> Iterator[int]:
    """Yield the ids of the processes that carry `mark`, but for the one that set it (its environment block is older)."""
    needle = f"{MARK}={mark}".encode()
    for pid in (int(p) for p in os.listdir("/proc") if p.isdigit()):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if needle in f.read().split(b"\0"):
                    yield pid
        except OSError:  # it ended meanwhile, or belongs to someone else
            continue


def main(mark: str, owner: int) -> None:
    """Wait for the owner's end, then kill until nothing is left."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _wait_for_end(owner)
    empty = 0
    while empty < 2:  # a process that forks while it is looked for may be missed once
        pids = [pid for pid in owned(mark) if not _zombie(pid)]
        empty = 0 if pids else empty + 1
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)


def _wait_for_end(owner: int) -> None:
    ends = select.poll()
    ends.register(
        0, select.POLLIN | select.POLLHUP
    )  # the pipe: closed by the owner, or by the kernel with its last holder
    try:
        ends.register(
            os.pidfd_open(owner), select.POLLIN
        )  # the owner itself: a forked child may hold the pipe open
    except ProcessLookupError:
        return
    except (OSError, AttributeError):  # an old kernel: the pipe has to do
        pass
    ends.poll()


def _zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
