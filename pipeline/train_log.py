"""The log of a training, a JSON line per logging step: for readers that must not import the trainers."""

from pathlib import Path
from typing import Any

import orjson

from pipeline.store import files

Line = dict[str, Any]


def read_progress(path: str | Path) -> list[Line]:
    """Return the last line of each step, in order, without a torn last line; [] if there is no file."""
    by_step: dict[int, Line] = {}
    lines = files.read_bytes(str(path)).split(b"\n")[:-1] if files.exists(str(path)) else ()
    for line in map(orjson.loads, filter(None, lines)):
        # A resumed run goes back some steps: lines of the killed run that it has not repeated yet are void.
        by_step = {step: old for step, old in by_step.items() if step < line["step"]}
        by_step[line["step"]] = line
    return list(by_step.values())


def cut_torn_line(path: str | Path) -> None:
    """Remove a last line that a killed process left unfinished, so that the next one starts a new line."""
    path = Path(path)
    if path.exists() and (data := path.read_bytes()) and not data.endswith(b"\n"):
        with open(path, "r+b") as f:
            f.truncate(data.rfind(b"\n") + 1)
