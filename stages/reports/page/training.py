"""How each round trained, and what each stage cost."""

from typing import Any

import orjson

from pipeline.overview import NOT_BEGUN, TRAININGS
from pipeline.rundir import RunDir
from pipeline.stage import TRAIN
from pipeline.store import files
from stages.reports.page.charts import Bar, Point, Series, bars, lines

Facts = dict[str, Any]
POINTS = 240  # of a curve; longer ones are thinned
REWARD = "rewards/margins"


def trained(run: RunDir, rounds: list[Facts]) -> Facts:
    """Return the curves of each round's training, and its totals."""
    found = []
    for r in rounds:
        for name in TRAININGS:
            if not (facts := r.get(name)) or facts["state"] == NOT_BEGUN:
                continue
            steps = _progress(files.join(run.stage(r["round"], name), "progress.jsonl"))
            title = f"round {r['round']}" + ("" if name == TRAIN else " (supervised)")
            found.append({"title": title, "state": facts["state"], "result": facts["result"], "steps": steps})
    curves = [f for f in found if f["steps"]]
    charts = []
    for title, key in (("Loss", "loss"), ("Reward margin", REWARD), ("Tokens a second", "tokens_per_second")):
        series = [Series(f["title"], _curve(f["steps"], key, f["title"]), i) for i, f in enumerate(curves)]
        if any(len(s.points) > 1 for s in series):
            series = [s for s in series if s.points]
            legend = [(s.name, s.color) for s in series] if len(series) > 1 else []
            svg = lines(title, series, zero=key == "tokens_per_second", x_name="step")
            charts.append({"title": title, "svg": svg, "legend": legend, "caption": ""})
    rows = [{k: f[k] for k in ("title", "state", "result")} | {"rate": _rate(f["result"])} for f in found]
    return {"charts": charts, "rows": rows}


def cost(rounds: list[Facts]) -> Facts:
    """Return minutes and tokens of every finished stage, by round."""
    rows: list[Facts] = []
    stages: dict[str, int] = {}
    for r in rounds:
        for name, facts in r["stages"].items():
            if facts["state"] != NOT_BEGUN and not facts["passes_through"]:
                row = {
                    k: facts[k] for k in ("prompt_tokens", "completion_tokens", "requests_sent", "seconds")
                }
                rows.append({"round": r["round"], "stage": name, **row})
        for name in TRAININGS:
            if (facts := r.get(name)) and (result := facts["result"]):
                row = {
                    "prompt_tokens": 0,
                    "completion_tokens": 0,
                    "requests_sent": 0,
                    "trained": result["tokens"],
                }
                rows.append({"round": r["round"], "stage": name, "seconds": result["seconds"], **row})
    for row in rows:
        if row["seconds"]:
            stages.setdefault(row["stage"], len(stages))
    keys = list(dict.fromkeys(row["round"] for row in rows))
    stacks = [
        Bar(
            str(key),
            [
                (stages[row["stage"]], row["seconds"] / 60, f"round {key}, {row['stage']}: {_minutes(row)}")
                for row in rows
                if row["round"] == key and row["seconds"]
            ],
        )
        for key in keys
    ]
    totals = {
        key: sum(row.get(key) or 0 for row in rows)
        for key in ("prompt_tokens", "completion_tokens", "requests_sent", "seconds", "trained")
    }
    return {"chart": _minutes_chart(stacks, stages), "rows": rows, "totals": totals}


def _minutes_chart(stacks: list[Bar], stages: dict[str, int]) -> Facts | None:
    if not any(bar.parts for bar in stacks):
        return None
    title = "Minutes by round and stage"
    return {
        "title": title,
        "svg": bars(title, stacks, "round"),
        "legend": [(name, i % 8) for name, i in stages.items()],
        "caption": "Stages that ran side by side count in full.",
    }


def _minutes(row: Facts) -> str:
    return f"{row['seconds'] / 60:.1f} minutes"


def _rate(result: Facts | None) -> float | None:
    settings = (result or {}).get("hyperparameters") or {}
    return settings.get("learning_rate")


def _curve(steps: list[Facts], key: str, title: str) -> list[Point]:
    known = [line for line in steps if isinstance(line.get(key), int | float)]
    every = 1 + len(known) // POINTS
    kept = [line for i, line in enumerate(known) if i % every == 0 or i == len(known) - 1]
    return [Point(x["step"], x[key], tip=f"{title}, step {x['step']}: {x[key]:.4g}") for x in kept]


def _progress(path: str) -> list[Facts]:
    """Return the progress lines, without those of steps that a resumed training went back over."""
    by_step: dict[int, Facts] = {}
    for text in files.read_bytes(path).split(b"\n")[:-1] if files.exists(path) else ():
        try:
            line = orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
        by_step = {step: old for step, old in by_step.items() if step < line["step"]}
        by_step[line["step"]] = line
    return list(by_step.values())
