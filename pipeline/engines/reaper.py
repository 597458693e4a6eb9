"""Kill the processes that an engine leaves behind.

vLLM's EngineCore and Worker processes outlive a killed parent and spin. The reaper is a small process started
beside the engine. It watches the owner, and a pipe whose write end the owner holds. When the owner ends, in
whatever way, or closes the pipe, the reaper kills every process whose environment carries the owner's mark.
Children inherit the environment, so none is missed, however late or deep it was started.
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
        # Not inherited by programs started later, but by children that only fork.
        read, self._write = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", os.path.abspath(__file__), self.mark, str(os.getpid())],
            stdin=read,
            start_new_session=True,  # neither Ctrl-C in the terminal nor a kill of the group may end it
            env={k: v for k, v in os.environ.items() if k != MARK},
        )
        os.close(read)

    def end(self, seconds: float = 10) -> None:
        """Kill everything started under the mark, and wait until it is gone."""
        os.close(self._write)
        self._process.wait(seconds)
        os.environ.pop(MARK, None)


def owned(mark: str) -> Iterator[int]:
    """Yield the ids of processes that carry `mark`; not its owner, whose environment block is older."""
    needle = f"{MARK}={mark}".encode()
    for pid in (int(p) for p in os.listdir("/proc") if p.isdigit()):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if needle in f.read().split(b"\0"):
                    yield pid
        except OSError:  # it has ended, or belongs to another user
            continue


def main(mark: str, owner: int) -> None:
    """Wait for the owner's end, then kill until nothing is left."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _wait_for_end(owner)
    empty = 0
    while empty < 2:  # one pass may miss a process that forks during it
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
    # The pipe is closed by the owner, or by the kernel with its last holder. A forked child may hold it for
    # longer than the owner lives, so the owner is watched as well.
    ends.register(0, select.POLLIN | select.POLLHUP)
    try:
        ends.register(os.pidfd_open(owner), select.POLLIN)
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
