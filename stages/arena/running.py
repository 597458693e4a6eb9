"""Making the runs of an arena, one after the other, within its budget; from wherever an earlier start left
off. Seeds share nothing, so several commands may make those of different seeds side by side.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import overview
from pipeline.config import Budget, Recipe
from pipeline.console import progress as console
from pipeline.display import round_title
from pipeline.errors import ConfigError, SelfloopError, StaleError
from pipeline.rundir import RunDir
from pipeline.sharing import taken_over
from pipeline.store import files
from pipeline.store.lock import run_lock
from stages.arena import equal
from stages.arena.lineup import Entry, Lineup
from stages.reports import arena as report
from stages.reports import page
from stages.rounds.loop import EVALUATE, Loop, Step


class Outcome(NamedTuple):
    """How a start of the arena ended: what stopped it (""), and what stopped single runs, by their name."""

    stopped: str
    failed: dict[str, str]


async def run(lineup: Lineup, seeds: Sequence[int] = ()) -> tuple[Outcome, dict[str, Any]]:
    """Make all runs, or those of `seeds`, and return how that ended, and the results of all that there are,
    which are also written to the arena's folder.

    Every recipe is checked and every task read before anything is asked. A run that cannot go on does not
    keep the others from it.
    """
    if unknown := set(seeds) - set(lineup.arena.seeds):
        raise ConfigError(f"--seed {min(unknown)}: the arena's seeds are {lineup.arena.seeds}")
    equal.check(lineup.arena, lineup)
    lineup.entries()  # every recipe is built before a pilot asks anything
    spent = Spent(lineup, seeds)
    with ExitStack() as stack:
        whole = stack.enter_context(ExitStack())
        whole.enter_context(run_lock(lineup.folder))
        chosen = await equal.settings(lineup)
        if seeds:  # another command may make the runs of other seeds now
            whole.close()
        entries = [entry for entry in lineup.entries(chosen) if not seeds or entry.seed in seeds]
        spent.count()
        for entry in entries:
            stack.enter_context(run_lock(entry.run.local))
        loops = [_prepared(entry) for entry in entries]
        _check_same_questions(entries)
        _share_engines(loops)
        stopped, failed = "", {}
        for entry, loop, following in zip(entries, loops, [*loops[1:], None], strict=True):
            title = f"{entry.arm}, seed {entry.seed}"
            console.print(f"{title}: {entry.run.root}", markup=False, style="bold")
            keep = following is not None and following.engines is loop.engines
            try:
                stopped = await _make(loop, title, spent)
            except SelfloopError as e:
                failed[title] = str(e)
                console.print(f"error: {title}: {e}", markup=False, style="red")
                keep = False
            except BaseException:
                await loop.free()
                raise
            if stopped or not keep:
                await loop.free()
            outcome = Outcome(stopped, failed)
            figures = results(lineup, outcome)
            if stopped:
                break
        return outcome, figures


def results(lineup: Lineup, outcome: Outcome | None = None) -> dict[str, Any]:
    """Return the arena's figures so far, and write its files."""
    state = {
        "spent": Spent(lineup).figures(),
        "stopped": outcome.stopped if outcome else "",
        "failed": outcome.failed if outcome else {},
    }
    figures = report.figures(lineup.arena, lineup.runs(), equal.stored(str(lineup.folder)), state)
    report.write(figures, str(lineup.folder))
    if begun := [run_ for runs in lineup.runs().values() for run_ in runs.values() if run_.exists()]:
        page.try_write(begun, str(lineup.folder), lineup.arena.name)
    return figures


class Spent:
    """What the arena has taken, over all starts, against its budget. Seeds run apart have a file each."""

    def __init__(self, lineup: Lineup, seeds: Sequence[int] = ()) -> None:
        name = "-".join(["spent", *map(str, sorted(seeds))])
        self._lineup, self._path = lineup, str(lineup.folder / f"{name}.json")
        self._counted = time.monotonic()
        before = files.read_json(self._path) if files.exists(self._path) else {}
        self.seconds = float(before.get("seconds", 0.0))

    def count(self) -> None:
        """Add the time since it was last counted; a kill loses no more than that."""
        now = time.monotonic()
        self.seconds, self._counted = self.seconds + now - self._counted, now
        files.write_json(self._path, {"seconds": round(self.seconds, 1)})

    def figures(self) -> dict[str, Any]:
        """Return hours, and the tokens that models wrote, each counted once."""
        others = set(map(str, self._lineup.folder.glob("spent*.json"))) - {self._path}
        seconds = self.seconds + sum(files.read_json(path)["seconds"] for path in others)
        return {"hours": seconds / 3600, "sampled_tokens": asked_tokens(self._lineup.everything())}

    def used_up(self) -> str:
        """Return which budget is used up, in words, "" for none."""
        budget: Budget = self._lineup.arena.budget
        if budget.hours is not None and (hours := self.figures()["hours"]) >= budget.hours:
            return f"budget.hours: {budget.hours:g} h are used up ({hours:.2f} h)"
        if budget.sampled_tokens is not None:
            tokens = self.figures()["sampled_tokens"]
            if tokens >= budget.sampled_tokens:
                return f"budget.sampled_tokens: {budget.sampled_tokens:,} are used up ({tokens:,})"
        return ""


def asked_tokens(runs: list[RunDir]) -> int:
    """Return the completion tokens of all finished stages of the runs, without those taken over."""
    found = 0
    for run_ in runs:
        for path in Path(run_.root).glob("rounds/*/*/manifest.json"):
            if not taken_over(str(path.parent)) and (manifest := run_.manifest(str(path.parent))):
                found += manifest.tokens.completion
    return found


def _share_engines(loops: list[Loop]) -> None:
    """Let runs that follow each other use the same engines: starting them may take a minute."""

    def settings(recipe: Recipe) -> tuple[Any, ...]:
        own = (recipe.engine, recipe.evaluate.engine)
        return (*own, recipe.runner.engine_pool, recipe.model.trust_remote_code)

    for before, loop in pairwise(loops):
        if settings(before.recipe) == settings(loop.recipe):
            loop.use_engines_of(before)


async def _make(loop: Loop, title: str, spent: Spent) -> str:
    """Do a run's steps; return why it was stopped before one of them, "" if it was not."""
    for step in loop.steps(loop.recipe.rounds):
        if not _is_done(loop.run, step) and (why := spent.used_up()):
            return f"{why}; stopped before {step.name} of {round_title(step.round)} of {title}"
        await loop.do(step)
        spent.count()
    return ""


def _is_done(run_: RunDir, step: Step) -> bool:
    if step.name == EVALUATE:
        return files.exists(run_.evaluation(step.round))
    return overview.is_done(run_, step.round, step.name)


def _prepared(entry: Entry) -> Loop:
    """Return the loop of a run whose tasks are read and whose settings fit them. Raises SelfloopError."""
    where = f"arm {entry.arm!r}, seed {entry.seed}"
    console.print(f"checking {where}", markup=False, style="dim")
    try:
        loop = Loop(entry.run, entry.run.freeze(entry.recipe))
        loop.prepare(entry.recipe.rounds)
    except StaleError as e:
        raise StaleError(
            f"{where}: {e}\nIn an arena: give the changed arm another name, or use another --to."
        ) from None
    except SelfloopError as e:
        raise type(e)(f"{where}: {e}") from e
    return loop


def _check_same_questions(entries: list[Entry]) -> None:
    """Raise ConfigError for arms whose models are not evaluated on the same questions."""
    first: dict[int, Entry] = {}
    for entry in entries:
        control = first.setdefault(entry.seed, entry)
        if _held_out(entry.run) != _held_out(control.run):
            raise ConfigError(
                f"arms {control.arm!r} and {entry.arm!r} are evaluated on different questions (seed "
                f"{entry.seed}), so their accuracy cannot be compared. Let tasks and held_out be the same."
            )


def _held_out(run_: RunDir) -> set[str]:
    return {row.id for row in run_.rows(run_.tasks("held_out"))}
