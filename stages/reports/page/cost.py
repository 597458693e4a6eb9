"""What a run cost: minutes and tokens of every stage and training, by round."""

from typing import Any

from pipeline.overview import NOT_BEGUN, TRAININGS
from stages.reports.page.charts import Bar, bars

Facts = dict[str, Any]
TOKENS = ("prompt_tokens", "completion_tokens", "requests_sent")
TITLE = "Minutes by round and stage"


def cost(rounds: list[Facts]) -> Facts:
    """Return a row per stage that has begun, the sums of all, and the chart of minutes."""
    rows: list[Facts] = []
    for r in rounds:
        for name, facts in r["stages"].items():
            if facts["state"] != NOT_BEGUN and not facts["passes_through"]:
                row = {key: facts[key] for key in (*TOKENS, "seconds")} | {"trained": 0}
                rows.append({"round": r["round"], "stage": name, **row})
        for name in TRAININGS:
            if (facts := r.get(name)) and (result := facts["result"]):
                row = {"seconds": result["seconds"], "trained": result["tokens"], **dict.fromkeys(TOKENS, 0)}
                rows.append({"round": r["round"], "stage": name, **row})
    for row in rows:
        row["rate"] = row["completion_tokens"] / row["seconds"] if row["seconds"] else 0
    totals = {key: sum(row[key] or 0 for row in rows) for key in (*TOKENS, "seconds", "trained")}
    return {"rows": rows, "totals": totals, "chart": _chart([row for row in rows if row["seconds"]])}


def _chart(rows: list[Facts]) -> Facts | None:
    """Return a stacked bar per round; None if nothing has taken time."""
    if not rows:
        return None
    colors = {stage: i % 8 for i, stage in enumerate(dict.fromkeys(row["stage"] for row in rows))}
    stacks: dict[Any, list[tuple[int, float, str]]] = {}
    for row in rows:
        minutes, stage = row["seconds"] / 60, row["stage"]
        tip = f"round {row['round']}, {stage}: {minutes:.1f} minutes"
        stacks.setdefault(row["round"], []).append((colors[stage], minutes, tip))
    svg = bars(TITLE, [Bar(str(round_), parts) for round_, parts in stacks.items()], "round")
    caption = "Stages that ran side by side count in full."
    return {"title": TITLE, "svg": svg, "legend": list(colors.items()), "caption": caption}
