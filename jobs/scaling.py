"""Accuracy against tokens in continued pretraining: python -m jobs.scaling RUN RUN ... [--to FILE.png]"""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from jobs.common import JsonOption, OldOutOption, existing_runs, main, one_name
from jobs.showing import print_json, show
from pipeline.console import console
from pipeline.statistics import Interval
from stages.reports.coverage import coverage, sentence
from stages.reports.scaling import Point, draw, fits, last_round, points
from stages.reports.table import interval


def scaling(
    runs: Annotated[
        list[str],
        typer.Argument(help="run directories with train.kind cpt: the arms and token budgets to compare"),
    ],
    to: Annotated[
        str | None, typer.Option("--to", help="file for the plot; default: scaling.png", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    out: OldOutOption = None,
) -> None:
    """Print and plot accuracy against training tokens, with two fits and their held-out errors.

    All runs are compared with the untrained model, and with the first run named.
    """
    plot = one_name(to, out) or "scaling.png"
    compared = existing_runs(runs)
    measured = points(compared)
    curves = fits(measured)
    draw(measured, curves, plot)
    if as_json:
        rows = [
            {name: v._asdict() if isinstance(v, Interval) else v for name, v in p._asdict().items()}
            for p in measured
        ]
        fitted = {
            arm: {
                name: {"parameters": f.parameters, "held_out_error": f.held_out_error}
                for name, f in c.items()
            }
            for arm, c in curves.items()
        }
        print_json({"points": rows, "fits": fitted, "plot": plot})
        return
    console.print(_table(measured, compared[0].recipe().method.get("arm", "the first")))
    for run in compared:
        if covered := coverage(run, last_round(run)):
            show(f"{run.root}: {sentence(covered)}")
    for arm, both in curves.items():
        for name, fit in both.items():
            error = "too few points" if fit.held_out_error is None else f"{fit.held_out_error:.2%}"
            show(f"{arm}: {name.replace('_', ' ')}: held-out error {error}")
    if not curves:
        show("no arm has three token budgets, so no curve was fitted")
    show(f"plot: {plot}")


def _table(measured: Sequence[Point], first: str) -> Table:
    """Return a table with one line per model; differences are paired over questions."""
    table = Table(title="closed-book accuracy, with 95% intervals", title_justify="left")
    names = (
        "arm",
        "distinct\ntokens",
        "passes",
        "general\ntext",
        "accuracy",
        "minus untrained",
        f"minus {first}",
        "perplexity of\ngeneral text",
    )
    for name in names:
        table.add_column(name, justify="left" if name == "arm" else "right")
    for p in measured:
        trained = (f"{p.passes:.1f}", f"{p.replay_share:.1%}") if p.tokens else ("", "")
        differences = (
            "" if d is None else interval(d._asdict(), signed=True) for d in (p.over_untrained, p.over_first)
        )
        accuracy = f"{p.accuracy:.1%} [{p.low:.1%}, {p.high:.1%}]"
        table.add_row(
            p.arm,
            f"{p.tokens:,}",
            *trained,
            accuracy,
            *differences,
            "" if p.perplexity is None else f"{p.perplexity:.2f}",
        )
    return table


if __name__ == "__main__":
    main(scaling)
