"""Locks in the run directory: one driver per run, and no worker that outlives its driver.

    driver.lock                        exclusive, held by the driver as long as it writes
    workers.lock                       shared, held by every stage worker until it dies
    rounds/*/<stage>/workers/*.lock    exclusive, one per worker of the running stage, named after its parts

A killed driver's workers may live for some seconds and commit one more part, so the next driver waits for
workers.lock before it reads what is there. A driver that replaces a worker waits for that worker's own lock.
These are flock locks: the kernel releases them when their process dies, however it dies, and a lock file left
behind means nothing. Object stores have no locks: nothing keeps a second driver away there.
"""

import asyncio
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import SelfloopError, StageError


@contextmanager
def run_lock(folder: Path | None) -> Iterator[None]:
    """Hold the driver's lock of a run. Does nothing for `folder` None, a run on an object store.

    Raises SelfloopError if another driver holds it, or the folder cannot be written or locked.
    """
    if folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / "driver.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as e:
        raise SelfloopError(
            f"{folder}: cannot be written: {e}. Give a --run directory that this user may write to."
        ) from None
    with open(fd, "r+") as file:
        if not _try_lock(fd, fcntl.LOCK_EX, folder):
            owner = file.read().strip() or "another process"
            raise SelfloopError(
                f"{folder} is in use by {owner}. Only one driver may write to a run: wait for it, or end it."
            )
        file.truncate(0)
        file.write(_owner())
        file.flush()
        yield


def driver(folder: Path) -> tuple[bool, bool]:
    """Tell whether a driver holds a run's lock, and whether the last one ran on another machine.

    The lock is looked up, not tried: for that moment it would keep a starting driver out. Locks of other
    machines cannot be seen.
    """
    try:
        inode, owner = (folder / "driver.lock").stat().st_ino, (folder / "driver.lock").read_text()
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False, False
    held = any(" FLOCK " in line and f":{inode} " in line for line in locks)
    return held, not owner.endswith(f" on {socket.gethostname()}")


def hold_as_worker(run: Path, stage_folder: str, writer: str) -> tuple[int, int]:
    """Take a worker's two locks until the process dies; return their descriptors, the shared one first."""
    run.mkdir(parents=True, exist_ok=True)
    shared = os.open(run / "workers.lock", os.O_RDWR | os.O_CREAT)
    _lock(shared, fcntl.LOCK_SH, run)
    path = _of_worker(stage_folder, writer)
    path.parent.mkdir(parents=True, exist_ok=True)
    own = os.open(path, os.O_RDWR | os.O_CREAT)
    _lock(own, fcntl.LOCK_EX, path)
    os.ftruncate(own, 0)
    os.write(own, _owner().encode())
    return shared, own


def worker_locks(stage_folder: str) -> str:
    """Return the folder of the stage's worker locks; it may be removed once the stage has no workers left."""
    return f"{stage_folder}/workers"


async def wait_for_worker(stage_folder: str, writer: str, seconds: float = 60) -> None:
    """Return once a worker that Ray has given up on is dead, so that it cannot write any more.

    Ray gives up on a worker when it loses contact with its node; the process may live on, with the shared
    file system still mounted. Raises StageError if it is still alive after `seconds`.
    """
    path = _of_worker(stage_folder, writer)
    if path.exists() and not await _released(path, seconds):
        raise StageError(
            f"{path}: a worker that Ray has given up on is still alive ({path.read_text()}). "
            "End it, then run the same command again."
        )


async def wait_for_old_workers(run: Path, seconds: float = 60) -> None:
    """Return once no worker of an earlier driver is alive, so that none can write another part.

    Raises SelfloopError, naming the workers, if some are after `seconds`.
    """
    run.mkdir(parents=True, exist_ok=True)
    path = run / "workers.lock"
    path.touch()
    if not await _released(path, seconds):
        alive = sorted(p.read_text() for p in run.glob("rounds/*/*/workers/*.lock") if not _is_free(p))
        raise SelfloopError(
            f"a worker of an earlier start still holds {path} after {seconds:.0f} s: "
            f"{', '.join(alive) or 'unknown'}. End it first."
        )


def _of_worker(stage_folder: str, writer: str) -> Path:
    return Path(worker_locks(stage_folder)) / f"{writer}.lock"


async def _released(path: Path, seconds: float) -> bool:
    """Wait until nobody holds the lock; tell whether that happened within `seconds`."""
    end = time.monotonic() + seconds
    while not _is_free(path):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.2)
    return True


def _is_free(path: Path) -> bool:
    with open(path, "r+") as f:  # NFS grants an exclusive lock to writers only
        return _try_lock(f.fileno(), fcntl.LOCK_EX, path)


def _try_lock(fd: int, mode: int, path: Path) -> bool:
    try:
        _lock(fd, mode | fcntl.LOCK_NB, path)
    except BlockingIOError:
        return False
    return True


def _lock(fd: int, mode: int, path: Path) -> None:
    try:
        fcntl.flock(fd, mode)
    except BlockingIOError:
        raise
    except OSError as e:
        raise SelfloopError(
            f"{path}: cannot be locked: {e}. A run directory must be on a file system that supports locks "
            "(check with selfloop doctor --run DIR)."
        ) from None


def _owner() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
