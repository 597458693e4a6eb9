"""Accuracy against tokens over several runs of continued pretraining: python -m jobs.scaling RUN RUN ... [--out FILE.png]"""

from typing import Annotated

import typer
from rich.table import Table

from jobs.common import existing_runs, main, say
from jobs.showing import print_json
from pipeline.display import console
from stages.scaling import draw, fits, points


def scaling(
    runs: Annotated[list[str], typer.Argument(help="run directories with train.kind cpt: arms and token budgets that are to be compared")],
    out: Annotated[str, typer.Option("--out", help="where the plot goes")] = "scaling.png",
    as_json: Annotated[bool, typer.Option("--json", help="print the facts as JSON")] = False,
) -> None:
    """Print and plot the accuracy of each run against the tokens it was trained on, with both fits and their held-out errors."""
    found = points(existing_runs(runs))
    curves = fits(found)
    draw(found, curves, out)
    if as_json:
        made = {arm: {name: {"parameters": f.parameters, "held_out_error": f.held_out_error} for name, f in both.items()} for arm, both in curves.items()}
        print_json({"points": [p._asdict() for p in found], "fits": made, "plot": out})
        return
    table = Table(title="closed-book accuracy", title_justify="left")
    for name in ("arm", "tokens", "accuracy [95% interval]", "perplexity of general text"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for p in found:
        table.add_row(p.arm, f"{p.tokens:,}", f"{p.accuracy:.1%} [{p.low:.1%}, {p.high:.1%}]", "" if p.perplexity is None else f"{p.perplexity:.2f}")
    console.print(table)
    for arm, both in curves.items():
        for name, fit in both.items():
            error = "too few points" if fit.held_out_error is None else f"{fit.held_out_error:.2%}"
            say(f"{arm}: {name.replace('_', ' ')}: held-out error {error}")
    if not curves:
        say("no arm has three token budgets, so no curve was fitted")
    say(f"plot: {out}")


if __name__ == "__main__":
    main(scaling)
