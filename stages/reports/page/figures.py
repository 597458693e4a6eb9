"""What a page says of one run."""

from typing import Any

import yaml

from pipeline import overview
from pipeline.display import round_title
from pipeline.errors import SelfloopError
from pipeline.overview import DONE, NOT_BEGUN, TRAININGS
from pipeline.rundir import RunDir
from stages.reports.page.cost import cost
from stages.reports.page.data import data
from stages.reports.page.embed import safe
from stages.reports.page.results import results
from stages.reports.page.texts import texts
from stages.reports.page.training import trained
from stages.reports.table import measured, round_figures

Facts = dict[str, Any]
SETTING = 20_000  # characters of the recipe that are shown


def facts_of(run: RunDir) -> Facts:
    """Return a run's sections, as the page's template reads them. Raises SelfloopError if there is no run."""
    seen = overview.overview(run)
    rounds = seen["rounds"]
    figures = [f for r in run.rounds() if (f := round_figures(run, r)) and f["n"]]
    number = _measured(run)
    short = number.partition(" (")[0]  # a method may explain its measure in parentheses
    found = results(figures, short)
    return {
        "name": safe(seen["name"], 120),
        "method": safe(seen["method"], 120),
        "model": safe(seen["model"], 200),
        "engine": safe(seen["engine"], 200),
        "root": safe(seen["run"], 400),
        "tasks": {name.removeprefix("sets/"): n for name, n in seen["tasks"].items() if n},
        "measured": number,
        "n": figures[0]["n"] if figures else None,
        "state": state(rounds),
        "results": found,
        "tiles": _tiles(figures, short),
        "data": data(run, rounds),
        "trained": trained(run, rounds),
        "texts": texts(run, figures),
        "cost": cost(rounds),
        "recipe": safe(yaml.safe_dump(overview.recipe_of(run), sort_keys=False, allow_unicode=True), SETTING),
        "rounds": rounds,
    }


def state(rounds: list[Facts]) -> Facts:
    """Return how far a run is: in a sentence, and whether all of it is done."""
    begun = [i for i, r in enumerate(rounds) if any(s["state"] != NOT_BEGUN for s in _stages(r).values())]
    if not begun:
        return {"done": False, "text": "not begun"}
    # Earlier ones are over, whatever they lack: a branch shares only some stages.
    for r in rounds[begun[-1] :]:
        title = round_title(r["round"])
        for name, facts in _stages(r).items():
            if facts["state"] == NOT_BEGUN:
                return {"done": False, "text": f"{title}: {name} comes next"}
            if facts["state"] != DONE:
                of = f" of {facts['expected']:,}" if facts.get("expected") else ""
                rows = f", {facts['in']:,}{of} rows" if "in" in facts else ""
                return {"done": False, "text": f"{title}: {name} under way{rows}"}
    planned = sum(r["round"] not in ("base", 0) for r in rounds)
    return {"done": True, "text": f"all {planned} rounds finished" if planned > 1 else "finished"}


def _stages(r: Facts) -> Facts:
    """Return a round's stages and trainings in their order."""
    found = {**r["stages"], **{name: r[name] for name in TRAININGS if r.get(name)}}
    order = [name for name in overview.ROUND_STAGES if name in found]
    return {name: found[name] for name in [*order, *(n for n in found if n not in order)]}


def _measured(run: RunDir) -> str:
    try:
        return measured(run)
    except SelfloopError:  # a method of one's own that cannot be imported here
        return "accuracy"


def _tiles(figures: list[Facts], number: str) -> list[Facts]:
    """Return the figures that come first: name, value, and what stands below it."""
    if not figures:
        return []
    last, first = figures[-1], figures[0]
    low, high = last["greedy"]["low"], last["greedy"]["high"]
    tiles = [
        {
            "name": f"{number}, {round_title(last['round'])}",
            "value": f"{last['greedy']['mean']:.1%}",
            "below": f"{low:.1%} to {high:.1%}",
        }
    ]
    if last["round"] != first["round"]:
        below = f"first: {round_title(first['round'])}"
        tiles.append({"name": "where it began", "value": f"{first['greedy']['mean']:.1%}", "below": below})
    if number == "accuracy" and last.get("n") and last.get("parsed") is not None:
        tiles.append(
            {
                "name": "readable answers",
                "value": f"{last['parsed'] / last['n']:.0%}",
                "below": f"{last['parsed']:,} of {last['n']:,}",
            }
        )
    if previous := last.get("against_previous"):
        won, lost = previous["wrong_to_right"], previous["right_to_wrong"]
        below = f"questions won and lost since {round_title(previous['round'])}"
        tiles.append({"name": "flips", "value": f"+{won} \N{MINUS SIGN}{lost}", "below": below})
    made, kept = (
        sum(f.get(key) or 0 for f in figures if f.get("generated")) for key in ("generated", "kept")
    )
    if made:
        tiles.append(
            {"name": "kept of made", "value": f"{kept / made:.0%}", "below": f"{kept:,} of {made:,}"}
        )
    minutes = sum(f.get("seconds") or 0 for f in figures) / 60
    tokens = sum(f.get("generated_tokens") or 0 for f in figures)
    below = f"{tokens:,} tokens generated" if tokens else "in all rounds"
    hours = (
        f"{minutes / 60:.1f} h"
        if minutes >= 120
        else f"{minutes:.0f} min"
        if minutes >= 2
        else f"{60 * minutes:.0f} s"
    )
    tiles.append({"name": "time", "value": hours, "below": below})
    return tiles
