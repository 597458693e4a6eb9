"""Trackers: the driver starts a process for each, which follows the run directory and cannot harm the run."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.config import Recipe
from pipeline.console import progress as console
from pipeline.places import PROJECT
from pipeline.printable import one_line
from pipeline.rundir import RunDir
from pipeline.trackers.backends import backend, missing_package

SILENT_SECONDS = 5.0  # before people are told what the command waits for
START_SECONDS = 30.0  # that a process may take until it reads its stdin, on a busy machine
END_SECONDS = 60.0  # for a tracker to send and store the rest, once the run has ended


@contextmanager
def tracked(run: RunDir, recipe: Recipe, seconds: float = END_SECONDS) -> Iterator[None]:
    """Have the recipe's trackers follow the run while the block runs, and what is left of it afterwards.

    A tracker whose package is not installed is named, and left out. Raises ConfigError for a tracker of the
    user's own that cannot be imported.
    """
    started = {name: process for name in recipe.track.to if (process := _start(run, name, seconds))}
    try:
        yield
    finally:
        for process in started.values():
            with suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        for name, process in started.items():
            _end(name, process, seconds)


def _start(run: RunDir, name: str, seconds: float) -> subprocess.Popen[bytes] | None:
    if package := missing_package(name):
        _say(name, f"not tracked, {package} is not installed: pip install {package}")
        return None
    if run.local is None:
        _say(name, "not tracked: trackers follow runs on a mounted file system")
        return None
    backend(name)
    log = Path(run.path("logs", f"track-{name.replace(':', '.')}.log"))
    log.parent.mkdir(parents=True, exist_ok=True)
    search = [str(PROJECT), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.trackers.follower", run.root, name, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            start_new_session=True,  # Ctrl-C is for the driver
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, search))},
        )
    threading.Thread(target=_relay, args=(name, process, log), daemon=True).start()
    return process


def _relay(name: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Show what the process says, and that it died."""
    for line in process.stdout or ():
        _say(name, line.decode(errors="replace"))
    if process.wait() not in (0, 1, 3):  # 1 and 3: it has said why
        _say(name, f"ended with status {process.returncode}; see {log}")


def _end(name: str, process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(SILENT_SECONDS)
    except subprocess.TimeoutExpired:
        _say(name, "sending the rest")
    with suppress(subprocess.TimeoutExpired):
        process.wait(START_SECONDS + seconds)
    with suppress(OSError):  # the process group: a tracker's own helpers too
        os.killpg(process.pid, signal.SIGKILL)


def _say(name: str, text: str) -> None:
    console.print(f"track: {name}: {one_line(text, 300)}", markup=False, style="dim")
