"""Trackers of a user's own: one that keeps what it is told, one that fails, one that hangs."""

import json
import time

from pipeline.trackers.backends import Session
from pipeline.trackers.points import Point


class Keeping:
    """Appends every point to a file of the run, with the session's id and config once."""

    def __init__(self, session: Session) -> None:
        self._path = session.folder / "kept.jsonl"
        self.where = str(self._path)
        if not session.memory:
            session.memory["opened"] = True
            self._append({"id": session.id, "config": session.config})

    def log(self, number: int, point: Point) -> None:
        self._append({"number": number, **point._asdict()})

    def close(self) -> None:
        self._append({"closed": True})

    def _append(self, value: dict) -> None:
        with open(self._path, "a") as file:
            file.write(json.dumps(value) + "\n")


class Failing:
    def __init__(self, session: Session) -> None:
        raise PermissionError("no such account\nand more")


class Hanging:
    where = "nowhere"

    def __init__(self, session: Session) -> None:
        pass

    def log(self, number: int, point: Point) -> None:
        time.sleep(3600)
