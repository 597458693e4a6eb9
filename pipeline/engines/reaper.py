"""Ends the processes an engine leaves behind. vLLM's EngineCore and Worker processes outlive a killed parent and spin.

A small process is started beside the engine. It holds the read end of a pipe whose write end only the owner has; when the
owner ends, in whatever way, the pipe closes, and the reaper kills every process that carries the owner's mark in its
environment. Children inherit the environment, so none can be missed, however late or deep it was started.
"""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

MARK = "SELFLOOP_ENGINE"


class Reaper:
    """Marks this process's environment and starts the reaper. Processes started from now on are owned."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        os.environ[MARK] = self.mark
        read, self._write = os.pipe()  # neither end is inherited by later children
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", os.path.abspath(__file__), self.mark],
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


def main(mark: str) -> None:
    """Wait for the owner's end, then kill until nothing is left."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    while pids := list(owned(mark)):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if all(_zombie(pid) for pid in pids):
            return


def _zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


if __name__ == "__main__":
    main(sys.argv[1])
