"""Accuracy against tokens and against minutes, over the rounds of an arena's arms."""

from typing import Any

from pipeline.store import files


def draw(found: dict[str, Any], target: str) -> None:
    """Write a PNG: accuracy by round against tokens sampled and trained on so far, and against minutes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, no display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for arm in found["arms"]:
        rounds = arm["by_round"]
        accuracy = [100 * r["accuracy"] for r in rounds]
        costs = [r["costs_so_far"] for r in rounds]
        for axes, x in (
            (left, [c["sampled_tokens"] + c["trained_tokens"] for c in costs]),
            (right, [c["minutes"] for c in costs]),
        ):
            axes.plot(x, accuracy, marker="o", markersize=4, label=arm["arm"])
    left.set_xlabel("tokens sampled and trained on")
    right.set_xlabel("minutes")
    left.set_ylabel(f"held-out {found['measured']}, %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.set_xlim(left=0)
    right.legend(fontsize=8)
    with files.atomic_write(target) as file:
        figure.savefig(file, format="png", dpi=120)
