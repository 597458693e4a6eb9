"""How `iterate --plan` shows a plan, in 100 columns."""

import math
import textwrap
from collections.abc import Iterable

from jobs.showing import show
from pipeline.rundir import RoundKey
from stages.arena.planning import ArenaPlan
from stages.rounds.plan import Line, Plan
from stages.rounds.planned import Span

WIDTHS = (7, 22, 13, 13, 13, 13, 11)
HEADS = ("round", "stage", "rows", "requests", "prompt tok.", "new tok.", "minutes")
NOTHING = Span()
SHOWN = 4  # rounds beside the untrained model and round 0; those in between are summed up
COLUMNS, GIB = 100, 2**30


def show_plan(plan: Plan) -> None:
    """Print a plan: stages, totals, memory, disk, how it was reckoned, and what does not fit."""
    recipe, counts = plan.recipe, plan.tasks
    head = (
        f"{recipe.name}: method {recipe.method['name']}, model {recipe.model.base} "
        f"({number(plan.size.parameters)} parameters), engine {recipe.engine.kind}"
    )
    sets = "".join(f", {n} of {name}" for name, n in counts.items() if name in recipe.evaluate.sets)
    tasks = (
        f"tasks: {counts['train']} to train on, {counts['held_out']} held out, "
        f"{counts['demonstrations']} demonstrations{sets}"
    )
    show(_wrapped(head), style="bold")
    show(_wrapped(tasks))
    show()
    show(_row(HEADS))
    for line in _shortened(plan.lines):
        show(_row(_cells(line)))
    show(_row(_cells(_total([line for line in plan.lines if not line.done], "", "left in all"))))
    show()
    for need in plan.needs:
        show(_wrapped(str(need)))
    free = "" if plan.free is None else f"; {plan.free / GIB:.1f} GiB are free"
    show(f"disk: about {plan.disk / GIB:.1f} GiB for models, checkpoints and texts{free}")
    for note in plan.notes:
        show(_wrapped(note))
    for problem in plan.problems:
        show(_wrapped(f"PROBLEM: {problem}"), style="red")


def show_totals(plan: ArenaPlan) -> None:
    """Print what an arena will take by arm, over all seeds, and what does not fit."""
    heads = ("arm", "runs", "requests", "prompt tok.", "new tok.", "trained tok.", "minutes")
    widths = (24, 7, 13, 13, 13, 13, 11)
    runs = len(plan.runs) // len(plan.lines)
    show(_row(heads, widths))
    for arm, lines in plan.lines.items():
        show(_row((arm, str(runs), *_sums(lines)), widths))
    every = [line for lines in plan.lines.values() for line in lines]
    show(_row(("in all", str(len(plan.runs)), *_sums(every)), widths))
    show()
    most = sum(run.disk for run in plan.runs) / GIB
    show(f"disk: at most {most:.1f} GiB; arms share files by hard links, and checkpoints do not stay")
    notes = [note for run in plan.runs for note in run.notes]
    for note in dict.fromkeys((*plan.notes, *notes)):
        show(_wrapped(note))
    for problem in dict.fromkeys(problem for run in plan.runs for problem in run.problems):
        show(_wrapped(f"PROBLEM: {problem}"), style="red")


def _sums(lines: list[Line]) -> tuple[str, ...]:
    total, trained = _total(lines, "", ""), _sum(line.completion for line in lines if line.trains)
    return (span(total.requests), span(total.prompt), span(total.completion), span(trained), _minutes(total))


def number(value: float) -> str:
    """Return a number in at most six characters."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            scaled = value / (1e3 if unit == "k" else size)
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{scaled:.0f}{unit}"
    return f"{value:,.0f}"


def span(value: Span, digits: int | None = None) -> str:
    """Return a number, or the two it lies between."""
    if math.isnan(value.high):
        return "?"
    low, high = (number(v) if digits is None or v >= 100 else f"{v:.{digits}f}" for v in value)
    return low if low == high else f"{low}-{high}"


def _row(cells: Iterable[str], widths: Iterable[int] = WIDTHS) -> str:
    return "".join(f"{c[: w - 1]:<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip()


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, COLUMNS, break_long_words=False, break_on_hyphens=False))


def _cells(line: Line) -> tuple[str, ...]:
    title, rows = str(line.round), "" if line.rows is NOTHING else span(line.rows)
    asked = [span(line.requests), span(line.prompt), span(line.completion)]
    if line.trains:
        asked = [f"{asked[0]} steps", "", asked[2]]
    elif not line.known:
        asked = ["unknown", "", ""]
    elif not line.requests.high:
        asked = ["", "", ""]
    return (title, line.stage, rows, *asked, _minutes(line))


def _minutes(line: Line) -> str:
    if line.done:
        return "done"
    if line.seconds is None:
        return "?"
    return span(line.seconds.times(1 / 60), 1) if line.seconds.high else ""


def _shortened(lines: list[Line]) -> list[Line]:
    """Sum up the rounds between the first ones and the last."""
    rounds: list[RoundKey] = list(
        dict.fromkeys(line.round for line in lines if line.round not in ("base", 0))
    )
    if len(rounds) <= SHOWN:
        return lines
    between = rounds[2:-1]
    summed = _total(
        [line for line in lines if line.round in between], f"{between[0]}-{between[-1]}", "all stages"
    )
    first = [line for line in lines if line.round not in (*between, rounds[-1])]
    return [*first, summed, *(line for line in lines if line.round == rounds[-1])]


def _total(lines: list[Line], title: str, stage: str) -> Line:
    """Return the sums of lines; rows of stages that follow one another are not added up."""
    asking = [line for line in lines if not line.trains and line.known]
    requests, prompt, completion = (
        _sum(getattr(line, name) for line in asking) for name in ("requests", "prompt", "completion")
    )
    seconds = _sum(line.seconds for line in lines if line.seconds is not None)
    return Line(title, stage, NOTHING, requests, prompt, completion, seconds)


def _sum(values: Iterable[Span]) -> Span:
    known = [value for value in values if not math.isnan(value.high)]
    return Span(sum(v.low for v in known), sum(v.high for v in known))
