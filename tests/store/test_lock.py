"""One driver per run: the lock goes with its owner, however that one ends."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import SelfloopError, StageError
from pipeline.store import lock
from pipeline.store.lock import hold_as_worker, run_lock, wait_for_old_workers

DRIVER = "import sys, time; from pathlib import Path; from pipeline.store import lock\n"
HOLD = {
    "driver": DRIVER + "with lock.run_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)",
    "worker": DRIVER
    + "lock.hold_as_worker(Path(sys.argv[1]), sys.argv[1] + '/rounds/001/generate', '00003')\n"
    + "print('held', flush=True); time.sleep(60)",
}


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen]]:
    """A function that starts a process which holds a lock on tmp_path."""
    started = []

    def start(kind: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD[kind], str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_second_driver_is_refused_and_told_by_whom(tmp_path: Path, holder: Callable) -> None:
    first = holder("driver")
    with pytest.raises(SelfloopError, match=f"in use by process {first.pid} on "), run_lock(tmp_path):
        pass
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    with run_lock(tmp_path):
        assert f"process {os.getpid()} on " in (tmp_path / "driver.lock").read_text()
        with pytest.raises(SelfloopError, match=f"in use by process {os.getpid()} "), run_lock(tmp_path):
            pass
    with run_lock(tmp_path):
        pass


def test_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError), run_lock(tmp_path):
        raise ValueError
    with run_lock(tmp_path):
        pass


def test_a_program_the_driver_starts_does_not_inherit_the_lock(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        with run_lock(tmp_path):
            assert f"process {os.getpid()} on " in (tmp_path / "driver.lock").read_text()
    finally:
        child.kill()
        child.wait()


def test_a_folder_that_cannot_be_made_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SelfloopError, match="cannot be written"), run_lock(tmp_path / "file" / "run"):
        pass


def test_object_stores_have_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two drivers at once are not told apart there: neither waits, neither is refused."""
    monkeypatch.chdir(tmp_path)
    with run_lock(None), run_lock(None):
        assert not list(tmp_path.iterdir())


async def test_old_workers_are_waited_for(tmp_path: Path, holder: Callable) -> None:
    await wait_for_old_workers(tmp_path)
    old = holder("worker")
    with pytest.raises(SelfloopError, match=r"earlier start still holds .*workers\.lock"):
        await wait_for_old_workers(tmp_path, seconds=0.3)
    os.kill(old.pid, signal.SIGKILL)
    old.wait()
    await wait_for_old_workers(tmp_path, seconds=5)


async def test_a_worker_that_was_given_up_and_lives_on_is_waited_for_and_named(
    tmp_path: Path, holder: Callable
) -> None:
    """It could still write a part with rows that others do again."""
    stage, old = str(tmp_path / "rounds/001/generate"), holder("worker")
    with pytest.raises(
        StageError,
        match=f"00003.lock: a worker that Ray has given up on is still alive .process {old.pid} on ",
    ):
        await lock.wait_for_worker(stage, "00003", seconds=0.3)
    asyncio.get_running_loop().call_later(0.5, old.kill)
    await asyncio.wait_for(lock.wait_for_worker(stage, "00003", seconds=30), 30)
    await lock.wait_for_worker(stage, "00004", seconds=0)  # one that never got so far


async def test_which_worker_is_waited_for_is_said(tmp_path: Path, holder: Callable) -> None:
    old = holder("worker")
    with pytest.raises(SelfloopError, match=f"workers.lock after 0 s: process {old.pid} on "):
        await wait_for_old_workers(tmp_path, seconds=0)


def test_a_file_system_without_locks_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with pytest.raises(SelfloopError, match="cannot be locked: .*No locks available"), run_lock(tmp_path):
        pass


async def test_workers_hold_it_together(tmp_path: Path) -> None:
    stage = str(tmp_path / "rounds/001/generate")
    fds = [hold_as_worker(tmp_path, stage, writer)[0] for writer in ("00000", "00001")]
    os.close(fds[0])
    with pytest.raises(SelfloopError):
        await wait_for_old_workers(tmp_path, seconds=0)
    os.close(fds[1])
    await wait_for_old_workers(tmp_path, seconds=0)
