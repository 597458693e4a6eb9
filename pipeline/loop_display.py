"""The whole loop at a glance: rounds by stages, done, under way or to come, and the time that is left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.table import Table

from pipeline import overview
from pipeline.rundir import RoundKey, RunDir
from pipeline.store import files

AROUND = 3  # rounds shown before and after the one under way
WIDEST = 13  # columns of a cell, with its padding: a narrower terminal gets the line alone


class Part(NamedTuple):
    """A stage of a round; `seconds` is what it took, None while it is not done."""

    round: RoundKey
    stage: str
    seconds: float | None


class LoopDisplay:
    """A run's parts, as they are on disk at each `refresh`."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self.refresh()

    def refresh(self) -> None:
        """Look again what is done; to be called when a part begins."""
        self.parts = list(parts(self._run))
        self._began = time.monotonic()

    @property
    def current(self) -> Part | None:
        """The part under way: the first that is not done."""
        return next((part for part in self.parts if part.seconds is None), None)

    def line(self) -> str:
        """Return how far the run is: "part 9 of 23, about 12 min left"."""
        done = sum(part.seconds is not None for part in self.parts)
        left = self.left()
        text = f"part {min(done + 1, len(self.parts))} of {len(self.parts)}"
        return text if left is None else f"{text}, about {duration(left)} left in all"

    def left(self) -> float | None:
        """Return the seconds that the rest takes if each part takes as long as the last one of its name.

        None while there is a name that no round has finished.
        """
        known = {part.stage: part.seconds for part in self.parts if part.seconds is not None}
        rest = [part for part in self.parts if part.seconds is None]
        if not rest or any(part.stage not in known for part in rest):
            return None
        current = max(0.0, known[rest[0].stage] - (time.monotonic() - self._began))
        return current + sum(known[part.stage] for part in rest[1:])

    def table(self) -> Table:
        """Return the rounds around the one under way as rows, the stages as columns."""
        stages = self._stages()
        rounds = list(dict.fromkeys(part.round for part in self.parts))
        at = rounds.index(self.current.round) if self.current else len(rounds) - 1
        shown = rounds[max(0, at - AROUND) : at + AROUND + 1]
        table = Table("round", *stages, show_edge=False, pad_edge=False, box=None, header_style="dim")
        by_place = {(part.round, part.stage): part for part in self.parts}
        for round_ in shown:
            cells = (self._cell(by_place.get((round_, stage))) for stage in stages)
            table.add_row(str(round_), *cells)
        return table

    def fits(self, width: int) -> bool:
        """Tell whether the table fits a terminal."""
        return width >= WIDEST * len(self._stages())

    def _stages(self) -> list[str]:
        """Return the names of all stages, in the order of the round that has most of them."""
        by_round: dict[RoundKey, list[str]] = {}
        for part in self.parts:
            by_round.setdefault(part.round, []).append(part.stage)
        fullest = max(by_round.values(), key=len, default=[])
        return list(dict.fromkeys([*fullest, *(part.stage for part in self.parts)]))

    def _cell(self, part: Part | None) -> str:
        if part is None:
            return ""
        if part.seconds is not None:
            return f"[green]{duration(part.seconds)}[/]"
        return "[bold cyan]under way[/]" if part == self.current else "[dim]to come[/]"


def parts(run: RunDir) -> Iterator[Part]:
    """Yield the parts of a run in the order in which `iterate` runs them."""
    recipe = overview.recipe_of(run)
    for round_ in overview.rounds_of(run, recipe):
        for stage in overview.stages_of(round_, recipe, run):
            folder = run.stage(round_, stage)
            if stage in overview.TRAININGS:
                done = files.join(folder, "train.json")
                result = files.read_json(done) if files.exists(done) else {}
                yield Part(round_, stage, (result.get("seconds") or 0.0) if result else None)
            else:
                manifest = run.manifest(folder)
                yield Part(round_, stage, manifest.seconds if manifest else None)


def duration(seconds: float) -> str:
    """Return a time in its largest fitting unit."""
    for unit, length in (("days", 2 * 86400), ("h", 2 * 3600), ("min", 120)):
        if seconds >= length:
            return f"{seconds / {'days': 86400, 'h': 3600, 'min': 60}[unit]:.0f} {unit}"
    return f"{seconds:.0f} s"


current: LoopDisplay | None = None  # of the run that this process iterates


@contextmanager
def shown(run: RunDir) -> Iterator[None]:
    """Have the displays of stages and trainings show the whole loop while the block runs."""
    global current
    current = LoopDisplay(run)
    try:
        yield
    finally:
        current = None
