"""Accuracy against tokens and against minutes, and methods' own measures by round, of an arena's arms."""

import textwrap
from typing import Any

from pipeline.store import files
from stages.reports.arena_tables import common_measures

LABEL = 36  # characters of an axis label's line


def draw(found: dict[str, Any], target: str) -> None:
    """Write a PNG: accuracy by round against tokens sampled and trained on so far, and against minutes;
    beside it the first of the methods' own measures by round, each seed as a thin line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, no display
    from matplotlib.figure import Figure

    measure = next(iter(common_measures(found)), None)
    figure = Figure(figsize=(15 if measure else 11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right, *third = figure.subplots(1, 3 if measure else 2)
    right.sharey(left)
    for number, arm in enumerate(found["arms"]):
        rounds = arm["by_round"]
        if measure:
            _by_round(third[0], f"C{number}", rounds, measure)
        accuracy = [100 * r["accuracy"] for r in rounds]
        costs = [r["costs_so_far"] for r in rounds]
        for axes, x in (
            (left, [c["sampled_tokens"] + c["trained_tokens"] for c in costs]),
            (right, [c["minutes"] for c in costs]),
        ):
            axes.plot(x, accuracy, marker="o", markersize=4, label=arm["arm"])
    left.set_xlabel("tokens sampled and trained on")
    right.set_xlabel("minutes")
    left.set_ylabel(textwrap.fill(f"held-out {found['measured']}, %", LABEL))
    for axes in (left, right):
        axes.set_xlim(left=0)
    for axes in (left, right, *third):
        axes.grid(alpha=0.3)
    right.legend(fontsize=8)
    with files.atomic_write(target) as file:
        figure.savefig(file, format="png", dpi=120)


def _by_round(axes: Any, color: str, rounds: list[dict[str, Any]], measure: str) -> None:
    """Draw a measure's means, and each seed's own, over the rounds; the untrained model is left of 0."""
    x = [-1 if r["round"] == "base" else r["round"] for r in rounds]
    seeds = list(zip(*(r["measures"][measure] for r in rounds), strict=True))
    for one in seeds if len(seeds) > 1 else ():
        axes.plot(x, one, color=color, linewidth=0.7, alpha=0.6)
    axes.plot(
        x, [sum(at) / len(at) for at in zip(*seeds, strict=True)], color=color, marker="o", markersize=4
    )
    axes.set_xlabel("round")
    axes.set_ylabel(measure)
