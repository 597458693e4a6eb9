"""Several runs side by side: the arms' accuracy by round, and their differences, paired by question."""

from collections.abc import Sequence
from typing import Any

from pipeline.errors import SelfloopError
from pipeline.rundir import RunDir
from stages.reports.comparison import compare
from stages.reports.page.charts import Point, Series, lines
from stages.reports.page.embed import safe

Facts = dict[str, Any]


def compared(runs: Sequence[RunDir]) -> Facts:
    """Return charts and tables of the runs' arms, or why the runs cannot be compared."""
    try:
        arms = compare(runs)
    except SelfloopError as e:
        return {"problem": safe(str(e), 600), "charts": [], "tables": []}
    tables = [_table("held-out", arms, cost=True)]
    for name in dict.fromkeys(name for arm in arms for name in arm["sets"]):
        tables.append(_table(name, [{**arm, **arm["sets"][name]} for arm in arms if name in arm["sets"]]))
    return {"problem": "", "charts": [_chart(t) for t in tables], "tables": tables}


def _table(name: str, arms: list[Facts], cost: bool = False) -> Facts:
    """Return a set's arms, and the pairs of arms that have a round in common."""
    pairs = [{"arm": a["arm"], "against": b["arm"], "rounds": b["rounds"]} for a in arms for b in a["against"]]
    pairs = [p for p in pairs if p["rounds"]]
    first = "round 0" if all(a["first"] == "round 0" for a in arms) else "start"
    return {
        "name": safe(name, 80),
        "title": f"{safe(name, 80)} accuracy: mean over seeds, and each seed",
        "rounds": [first, *(f"round {r}" for r in range(1, max(a["rounds"] for a in arms) + 1))],
        "arms": arms,
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
            points.append(Point(r, mean, min(seeds) if several else None, max(seeds) if several else None, tip))
        series.append(Series(arm["arm"], points, i))
    title = f"{table['name']} accuracy by round"
    spread = any(arm["seeds"] > 1 for arm in table["arms"])
    return {
        "title": title,
        "svg": lines(title, series, [r.removeprefix("round ") for r in table["rounds"]], "share"),
        "legend": [(s.name, s.color) for s in series],
        "caption": "Bars span the seeds." if spread else "Intervals of the differences are in the tables.",
    }
