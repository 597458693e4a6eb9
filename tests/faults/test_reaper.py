"""What an engine leaves behind is ended, however its owner dies and whatever its children do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.engines.reaper import MARK, owned

pytestmark = pytest.mark.slow

# A child with a session of its own that ignores SIGTERM; a grandchild does as well and forks further ones.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setsid()
if os.fork() == 0:
    os.setsid()
    os.fork()
time.sleep(600)
"""
OWNER = f"""
import os, subprocess, sys, time
from pipeline.engines.reaper import Reaper

reaper = Reaper()
for _ in range(2):
    subprocess.Popen([sys.executable, '-c', {STUBBORN!r}])
if 'fork' in sys.argv:  # only forked, as multiprocessing does: it holds all of the owner's descriptors
    if os.fork() == 0:
        time.sleep(600)
time.sleep(1)
print(reaper.mark, reaper._process.pid, flush=True)
if 'end' in sys.argv:
    reaper.end()
    print('ended', flush=True)
time.sleep(600)
"""


@pytest.fixture
def owner() -> Iterator[list[subprocess.Popen]]:
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def start(owner: list[subprocess.Popen], *how: str) -> tuple[subprocess.Popen, str, int]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, *how], stdout=subprocess.PIPE, text=True)
    owner.append(process)
    mark, reaper = process.stdout.readline().split()
    return process, mark, int(reaper)


def gone(mark: str, reaper: int) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if not list(owned(mark)) and not Path(f"/proc/{reaper}").exists():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("how", ["exec", "fork"])
def test_the_tree_is_gone_after_the_owner(
    owner: list[subprocess.Popen], sent: signal.Signals, how: str
) -> None:
    process, mark, reaper = start(owner, how)
    assert len(list(owned(mark))) == 6
    forked = [int(p) for p in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    os.kill(process.pid, sent)
    process.wait()
    try:
        assert gone(mark, reaper)
    finally:
        for pid in forked:
            if Path(f"/proc/{pid}").exists():  # one that was only forked does not carry the mark
                os.kill(pid, signal.SIGKILL)


def test_the_reaper_survives_a_sigterm(owner: list[subprocess.Popen]) -> None:
    process, mark, reaper = start(owner)
    os.kill(reaper, signal.SIGTERM)
    process.kill()
    process.wait()
    assert gone(mark, reaper)


def test_end_waits_until_all_are_gone(owner: list[subprocess.Popen]) -> None:
    process, mark, _reaper = start(owner, "end")
    assert process.stdout.readline() == "ended\n"
    assert not list(owned(mark)) and process.poll() is None


def test_others_are_left_alone(owner: list[subprocess.Popen]) -> None:
    """Neither a process with another mark, nor one whose mark merely begins the same."""
    process, mark, reaper = start(owner)
    others = [
        subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: other}) for other in ("x", mark + "0")
    ]
    process.kill()
    process.wait()
    assert gone(mark, reaper)
    assert all(other.poll() is None for other in others)
    for other in others:
        other.kill()
        other.wait()
