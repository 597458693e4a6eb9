"""Several runs side by side: the arms' accuracy by round, and their differences, paired by question."""

from collections.abc import Sequence
from typing import Any

from pipeline.errors import SelfloopError
from pipeline.rundir import RunDir
from stages.reports.comparison import compare, measured_by
from stages.reports.page.charts import Point, Series, lines
from stages.reports.page.embed import safe, signed

Facts = dict[str, Any]


def compared(runs: Sequence[RunDir]) -> Facts:
    """Return charts and tables of the runs' arms, or why the runs cannot be compared."""
    try:
        arms = compare(runs)
    except SelfloopError as e:
        return {"problem": safe(str(e), 600), "verdicts": [], "charts": [], "tables": []}
    tables = [_table("Held-out", arms, cost=True)]
    for name in dict.fromkeys(name for arm in arms for name in arm["sets"]):
        tables.append(_table(name, [{**arm, **arm["sets"][name]} for arm in arms if name in arm["sets"]]))
    charts = [chart for table in tables for chart in (_chart(table), _differences(table)) if chart]
    return {"problem": "", "verdicts": _verdicts(tables[0]), "charts": charts, "tables": tables}


def _verdicts(table: Facts) -> list[Facts]:
    """Return in a sentence how the last round of each pair of arms differs, and its tone."""
    found = []
    for pair in table["pairs"]:
        last = max(pair["rounds"], key=int)
        d = pair["rounds"][last]
        tone = "better" if d["low"] > 0 else "worse" if d["high"] < 0 else "even"
        says = {"better": "is better than", "worse": "is worse than", "even": "does not clearly differ from"}
        points = f"{signed(d['mean'])} points ({signed(d['low'])} to {signed(d['high'])})"
        text = f"“{pair['arm']}” {says[tone]} “{pair['against']}” in round {last}: {points}."
        found.append({"tone": tone, "text": text})
    return found


def _differences(table: Facts) -> Facts | None:
    """Return the chart of what each arm gains over the first."""
    first, titles, series = table["arms"][0]["arm"], table["rounds"], []
    for i, arm in enumerate(table["arms"]):
        rounds: Facts = next((a["rounds"] for a in arm["against"] if a["arm"] == first), {})
        points = [
            Point(
                int(r) + 0.05 * i,
                d["mean"],
                d["low"],
                d["high"],
                f"{arm['arm']}, round {r}: {100 * d['mean']:+.1f}",
            )
            for r, d in sorted(rounds.items(), key=lambda item: int(item[0]))
        ]
        if points:
            series.append(Series(arm["arm"], points, i))
    if not series:
        return None
    title = f"{table['name']}: points over {first}"
    return {
        "title": title,
        "svg": lines(title, series, [r.removeprefix("round ") for r in titles], "difference"),
        "legend": [(s.name, s.color) for s in series],
        "caption": "Paired by question, with 95% intervals.",
    }


def _table(name: str, arms: list[Facts], cost: bool = False) -> Facts:
    """Return a set's arms, and the pairs of arms that have a round in common."""
    pairs = [
        {"arm": a["arm"], "against": b["arm"], "rounds": b["rounds"]} for a in arms for b in a["against"]
    ]
    pairs = [p for p in pairs if p["rounds"]]
    first = "round 0" if all(a["first"] == "round 0" for a in arms) else "start"
    return {
        "name": safe(name, 80),
        "title": f"{safe(name, 80)} {measured_by(arms)}: mean over seeds, and each seed",
        "rounds": [first, *(f"round {r}" for r in range(1, max(a["rounds"] for a in arms) + 1))],
        "arms": arms,
        "measured": measured_by(arms),
        "pairs": pairs,
        "pair_rounds": sorted({r for p in pairs for r in p["rounds"]}, key=int),
        "cost": cost,
    }


def _chart(table: Facts) -> Facts:
    series = []
    for i, arm in enumerate(table["arms"]):
        points = []
        for r, seeds in enumerate(arm["accuracy"]):
            mean = sum(seeds) / len(seeds)
            several = len(seeds) > 1
            tip = f"{arm['arm']}, {table['rounds'][r]}: {mean:.1%}"
            points.append(
                Point(r, mean, min(seeds) if several else None, max(seeds) if several else None, tip)
            )
        series.append(Series(arm["arm"], points, i))
    title = f"{table['name']} {table['measured']} by round"
    spread = any(arm["seeds"] > 1 for arm in table["arms"])
    return {
        "title": title,
        "svg": lines(title, series, [r.removeprefix("round ") for r in table["rounds"]], "share"),
        "legend": [(s.name, s.color) for s in series],
        "caption": "Bars span the seeds." if spread else "Intervals of the differences are in the tables.",
    }
