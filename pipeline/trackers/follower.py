"""The process that tells one tracker about one run: python -m pipeline.trackers.follower RUN TRACKER SECONDS

It reads the run directory, writes nothing in it outside of tracking/, and ends when its stdin closes, which
the driver's death does too, with SECONDS to send the rest. So whatever a tracker does, hang included, the run
goes on. What was sent is noted in tracking/<tracker>.json; after a kill of this process at most the points in
flight are sent again.
"""

import fcntl
import os
import select
import sys
import threading
import time
import traceback
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline import overview
from pipeline.errors import SelfloopError
from pipeline.redact import redacted
from pipeline.rundir import RunDir
from pipeline.store import files
from pipeline.trackers.backends import Session, Tracker, backend
from pipeline.trackers.points import Point, points

POLL_SECONDS = 2.0
AT_ONCE = 200  # points between two notes of what was sent
RETRY_SECONDS = 60.0


class Follower:
    """Sends a run's points to a tracker, each once, over any number of starts."""

    def __init__(self, run: RunDir, name: str) -> None:
        self.run, self.name = run, name
        self._path = run.path("tracking", f"{name.replace(':', '.')}.json")
        stored = files.read_json(self._path) if files.exists(self._path) else {}
        # `sent`: "round/stage" -> the last step.
        self._state: dict[str, Any] = {
            "id": uuid.uuid4().hex[:8],
            "number": 0,
            "sent": {},
            "memory": {},
        } | stored
        self._tracker: Tracker | None = None

    def send(self) -> None:
        """Send what is new."""
        fresh = [p for p in points(self.run) if p.step > self._state["sent"].get(_key(p), p.step - 1)]
        for i in range(0, len(fresh), AT_ONCE):
            tracker = self._open()
            for point in fresh[i : i + AT_ONCE]:
                tracker.log(self._state["number"], point)
                self._state["number"] += 1
                self._state["sent"][_key(point)] = point.step
            files.write_json(self._path, self._state)

    def close(self) -> None:
        """Have the tracker store everything."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.close()

    def forget(self) -> None:
        """Open the tracker anew at the next point."""
        tracker, self._tracker = self._tracker, None
        with suppress(Exception):
            if tracker is not None:
                tracker.close()

    def _open(self) -> Tracker:
        if self._tracker is None:
            files.write_json(self._path, self._state)  # the id, before a tracker knows it
            recipe = overview.recipe_of(self.run)
            project = (recipe.get("track") or {}).get("project") or "selfloop"
            folder = Path(self._path).parent
            name = Path(self.run.root).name
            session = Session(
                project, name, self._state["id"], redacted(recipe), folder, self._state["memory"]
            )
            self._tracker = backend(self.name)(session)
            say(self._tracker.where)
        return self._tracker


def follow(follower: Follower, seconds: float) -> bool:
    """Send until stdin closes, then what is left, within `seconds`; tell whether all was sent. Errors are
    retried.
    """
    failed_at, over = None, False
    while not over:
        over = bool(select.select([sys.stdin], [], [], POLL_SECONDS)[0])
        if over:
            threading.Thread(target=_end_after, args=(seconds,), daemon=True).start()
        elif failed_at is not None and time.monotonic() - failed_at < RETRY_SECONDS:
            continue
        try:
            follower.send()
            if over:
                follower.close()
            failed_at = None
        except Exception as e:  # whatever a tracker raises
            traceback.print_exc()
            if failed_at is None or over:
                say(f"failed: {type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else ''}")
            failed_at = time.monotonic()
            follower.forget()
    return failed_at is None


def say(text: str) -> None:
    """Tell the driver something, as a line, if it is still alive; what libraries print goes to the log."""
    with suppress(OSError):
        os.write(_DRIVER, f"{text}\n".encode())


def _key(point: Point) -> str:
    return f"{point.round}/{point.stage}"


def _end_after(seconds: float) -> None:
    time.sleep(seconds)
    say(f"did not end within {seconds:.0f} s and was killed")
    os._exit(3)


_DRIVER = 1


def main() -> None:
    """Follow the run that the command line names."""
    global _DRIVER
    _DRIVER = os.dup(1)
    os.dup2(2, 1)
    os.nice(10)
    root, name, seconds = sys.argv[1:]
    run = RunDir(root)
    lock = Path(run.path("tracking", ".lock." + name.replace(":", ".")))
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # an earlier driver's follower may still send the rest
        try:
            done = follow(Follower(run, name), float(seconds))
        except SelfloopError as e:
            say(f"failed: {e}")
            done = False
        sys.exit(0 if done else 1)


if __name__ == "__main__":
    main()
