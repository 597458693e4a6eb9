"""How each round trained: the curves of its loss and speed, and its totals."""

from collections.abc import Iterator
from posixpath import basename
from typing import Any

from pipeline.overview import NOT_BEGUN, TRAININGS
from pipeline.rundir import RunDir, round_name
from pipeline.stage import TRAIN, TRAIN_SFT
from pipeline.store import files
from pipeline.train_log import read_progress
from stages.reports.page.charts import Point, Series, lines

Facts = dict[str, Any]
LINES = 8  # trainings in a chart, the last ones
POINTS = 240  # of a curve; longer ones are thinned
RESULT = ("examples", "left_out", "steps", "tokens", "tokens_per_second", "seconds", "final_loss")
# What is drawn: its title, and its key in a progress line.
CURVES = (
    ("Loss", "loss"),
    ("Reward margin", "rewards/margins"),
    ("Tokens a second", "tokens_per_second"),
)


def trained(run: RunDir, rounds: list[Facts]) -> Facts:
    """Return the curves of the last trainings, and the totals of all."""
    curves = [found for r in rounds for found in _curves(run, r) if found[1]][-LINES:]
    charts = []
    for title, key in CURVES:
        series = [Series(name, _points(steps, key, name), i) for i, (name, steps) in enumerate(curves)]
        if any(len(s.points) > 1 for s in series):
            series = [s for s in series if s.points]
            legend = [(s.name, s.color) for s in series] if len(series) > 1 else []
            svg = lines(title, series, zero=key == "tokens_per_second", x_name="step")
            charts.append({"title": title, "svg": svg, "legend": legend, "caption": ""})
    begun = [(r["round"], name, r[name]) for r in rounds for name in TRAININGS if r.get(name)]
    rows = [
        {"title": _title(round_, name), "state": facts["state"], **_result(facts["result"])}
        for round_, name, facts in begun
        if facts["state"] != NOT_BEGUN
    ]
    return {"charts": charts, "rows": rows}


def _curves(run: RunDir, r: Facts) -> Iterator[tuple[str, list[Facts]]]:
    """Yield the progress of a round's trainings: one, two in turn, or one for each role."""
    folder = run.path("rounds", round_name(r["round"]))
    roles = [basename(path.rstrip("/")) for path in files.glob(folder, f"{TRAIN}_*")]
    for name in (TRAIN_SFT, TRAIN, *(role for role in roles if role != TRAIN_SFT)):
        yield _title(r["round"], name), read_progress(files.join(folder, name, "progress.jsonl"))


def _title(round_: Any, name: str) -> str:
    part = "supervised" if name == TRAIN_SFT else name.removeprefix(TRAIN).removeprefix("_")
    return f"round {round_}" + (f" ({part})" if part else "")


def _result(result: Facts | None) -> Facts:
    """Return what the table shows of a training; results of older versions lack some of it."""
    settings = (result or {}).get("hyperparameters") or {}
    shown = {name: result.get(name) for name in RESULT} if result else None
    return {"result": shown, "rate": settings.get("learning_rate")}


def _points(steps: list[Facts], key: str, title: str) -> list[Point]:
    known = [line for line in steps if isinstance(line.get(key), int | float)]
    every = 1 + len(known) // POINTS
    kept = [line for i, line in enumerate(known) if i % every == 0 or i == len(known) - 1]
    return [Point(x["step"], x[key], tip=f"{title}, step {x['step']}: {x[key]:.4g}") for x in kept]
