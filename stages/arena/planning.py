"""What an arena will take: the plans of its runs, summed by arm, without what arms share."""

from typing import Any, NamedTuple

from pipeline.checks.machine import Machine
from pipeline.config import Recipe
from pipeline.methods import load_method, question_templates
from pipeline.prompts import Prompts
from stages.arena import equal
from stages.arena.lineup import Lineup
from stages.rounds.plan import Line, Plan
from stages.rounds.plan import plan as plan_of

_EVALUATED = ("tasks", "held_out", "model", "engine", "verifier", "evaluate", "sampling", "seed")
_STARTED = ("demonstrations", "filters", "train", "accumulate")


class ArenaPlan(NamedTuple):
    """Lines by arm, over all seeds; what arms share is the first one's. `runs` are the runs' own plans."""

    lines: dict[str, list[Line]]
    runs: list[Plan]
    notes: list[str]


def plan(lineup: Lineup) -> ArenaPlan:
    """Plan all runs of an arena, each with what it has measured if it has begun.

    Raises SelfloopError for whatever keeps one from starting.
    """
    equal.check(lineup.arena, lineup)
    found = equal.stored(str(lineup.folder)) if lineup.arena.equal == "sampled_tokens" else None
    known = {
        arm: {lineup.arena.sampled_by: one["value"]} for arm, one in (found or {"arms": {}})["arms"].items()
    }
    lines: dict[str, list[Line]] = {arm: [] for arm in lineup.arena.arms}
    seen: list[Any] = []
    runs = []
    for entry in lineup.entries(known):
        made = plan_of(entry.recipe, entry.run, Machine.here())
        runs.append(made)
        for line in made.lines:
            shared = (line.round, line.stage, _start(entry.recipe, line.round))
            if line.done or (line.round in ("base", 0) and shared in seen):
                continue
            seen.append(shared)
            lines[entry.arm].append(line)
    return ArenaPlan(lines, runs, list(_notes(lineup, known)))


def _start(recipe: Recipe, round_: int | str) -> Any:
    """Return what the evaluation of the untrained model depends on, or all of round 0."""
    prompts = Prompts.of(recipe)
    sections = {*_EVALUATED, *(_STARTED if round_ == 0 else ())}
    asked = {name: prompts.source(name) for name in question_templates(load_method(recipe))}
    return recipe.model_dump(mode="json", include=sections), asked


def _notes(lineup: Lineup, known: dict[str, Any]) -> list[str]:
    arena = lineup.arena
    notes = ["Arms may share more than the untrained model and round 0: it shows as they run."]
    if arena.equal == "sampled_tokens" and not known:
        notes.append(
            f"Before that, a pilot of {arena.pilot} questions for each arm; then its {arena.sampled_by} "
            "is set to sample as much as the control does, which this plan does not know yet."
        )
    if arena.budget.hours or arena.budget.sampled_tokens:
        limits = (
            f"{arena.budget.hours:g} hours" if arena.budget.hours else "",
            f"{arena.budget.sampled_tokens:,} sampled tokens" if arena.budget.sampled_tokens else "",
        )
        notes.append(f"It stops after {' or '.join(filter(None, limits))} (budget).")
    return notes
