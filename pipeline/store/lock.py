"""One driver per run, and no worker of a dead driver beside it: two locks on files in the run directory.

Locks belong to open files, so the kernel lets go of them when a process dies, however it dies.
"""

import fcntl
import os
import socket
import time
from pathlib import Path

from pipeline.errors import SelfloopError


class RunLock:
    """Held by a driver for as long as it writes to the run. Object stores have no locks: there it does nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file = None

    def __enter__(self) -> "RunLock":
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = open(self._folder / "driver.lock", "a+")
            except OSError as e:
                raise SelfloopError(f"{self._folder}: cannot be written: {e}. Give a --run directory that this user may write to.") from None
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.seek(0)
                owner = self._file.read().strip() or "another process"
                self._file.close()
                raise SelfloopError(
                    f"{self._folder} is in use by {owner}. Two drivers must not write to one run: wait for it, or end it."
                ) from None
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()


def hold_as_worker(folder: Path) -> int:
    """Take the shared lock that every stage worker holds until it dies; returns the open file descriptor."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / "workers.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def wait_for_old_workers(folder: Path, seconds: float = 60) -> None:
    """Return once no worker of an earlier driver is left, so that none can still write a part."""
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    with open(folder / "workers.lock", "a+") as f:
        while True:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    raise SelfloopError(f"a worker of an earlier run still holds {folder}/workers.lock after {seconds:.0f} s; end it first") from None
                time.sleep(0.2)
