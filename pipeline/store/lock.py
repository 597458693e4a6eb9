"""One driver per run, and no worker of a dead driver beside it: two locks on files in the run directory.

Locks belong to open files, so the kernel lets go of them when a process dies, however it dies.
"""

import asyncio
import fcntl
import os
import socket
import time
from pathlib import Path

from pipeline.errors import SelfloopError, StageError


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
                raise SelfloopError(
                    f"{self._folder}: cannot be written: {e}. Give a --run directory that this user may write to."
                ) from None
            try:
                _flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB, self._folder)
            except BlockingIOError:
                self._file.seek(0)
                owner = self._file.read().strip() or "another process"
                self._file.close()
                raise SelfloopError(
                    f"{self._folder} is in use by {owner}. Two drivers must not write to one run: wait for it, or end it."
                ) from None
            self._file.truncate(0)
            self._file.write(_who())
            self._file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()


def hold_as_worker(folder: Path) -> int:
    """Take the shared lock that every stage worker holds until it dies; returns the open file descriptor."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / "workers.lock", os.O_RDWR | os.O_CREAT)
    _flock(fd, fcntl.LOCK_SH, folder)
    return fd


def of_workers(stage_folder: str) -> str:
    """Return the folder with a lock file for each worker that a stage under way has."""
    return f"{stage_folder}/workers"


def of_worker(stage_folder: str, writer: str) -> Path:
    """Return the lock file of one worker, named as its parts are."""
    return Path(of_workers(stage_folder)) / f"{writer}.lock"


def hold(path: Path) -> int:
    """Take a lock of one's own until this process dies, and write into it who has it; returns the open file descriptor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    _flock(fd, fcntl.LOCK_EX, path)
    os.ftruncate(fd, 0)
    os.write(fd, _who().encode())
    return fd


async def let_go(path: Path, seconds: float = 60) -> None:
    """Return once nobody has the lock of a worker that is to be dead, so that it cannot write any more. Raises StageError after `seconds`.

    Ray gives up a worker whose node it does not hear of; the process may live on, with the shared file system still mounted.
    """
    end = time.monotonic() + seconds
    while path.exists() and not _is_free(path):
        if time.monotonic() > end:
            raise StageError(
                f"{path}: a worker that Ray has given up still lives ({path.read_text()}). End it, then start the same command again."
            )
        await asyncio.sleep(0.2)


def _is_free(path: Path) -> bool:
    with open(path) as f:
        try:
            _flock(f.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB, path)
        except BlockingIOError:
            return False
        return True


def _who() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _flock(fd: int, how: int, path: Path) -> None:
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        raise
    except OSError as e:
        raise SelfloopError(
            f"{path}: cannot be locked: {e}. A run directory must be on a file system that has locks (see selfloop doctor --run DIR)."
        ) from None


def wait_for_old_workers(folder: Path, seconds: float = 60) -> None:
    """Return once no worker of an earlier driver is left, so that none can still write a part."""
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    with open(folder / "workers.lock", "a+") as f:
        while True:
            try:
                _flock(f.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB, folder)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    left = sorted(
                        p.read_text() for p in folder.glob("rounds/*/*/workers/*.lock") if not _is_free(p)
                    )
                    raise SelfloopError(
                        f"a worker of an earlier start still holds {folder}/workers.lock after {seconds:.0f} s: {', '.join(left) or 'it does not say which'}. End it first."
                    ) from None
                time.sleep(0.2)
