"""Runs side by side, grouped by method and policy: python -m jobs.compare RUN RUN ..."""

from typing import Annotated, Any

import typer

from jobs.common import JsonOption, existing_runs, main
from jobs.showing import print_json, show, show_field
from pipeline.display import round_title
from stages.reports.comparison import arms, print_comparison
from stages.reports.comparison import compare as compare_runs
from stages.reports.flips import flips as flips_of


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="run directories; those that differ only in their seed are one arm")
    ],
    flips: Annotated[
        bool,
        typer.Option(
            "--flips",
            help="list the questions won and lost: by the last round against the first, or against the first "
            "arm named, with both answers and the right one",
        ),
    ] = False,
    limit: Annotated[
        int, typer.Option(min=1, help="with --flips: questions to list, won and lost each")
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """Print each arm's accuracy by round, its gain, and arms against each other, with 95% intervals.

    Differences are paired by question: all seeds' answers to a question count together.
    """
    directories = existing_runs(runs)
    comparison = compare_runs(directories)
    if flips:
        compared = arms(directories)
        for i, (arm, figures) in enumerate(zip(compared, comparison, strict=True)):
            figures["flips"] = flips_of(arm, compared[:i], limit)
    if as_json:
        print_json(comparison)
        return
    print_comparison(comparison)
    for figures in comparison:
        for found in figures.get("flips", ()):
            _print_flips(figures["arm"], found)


def _print_flips(arm: str, found: dict[str, Any]) -> None:
    old, new = (f"{found[m]['run']} {round_title(found[m]['round'])}" for m in ("old", "new"))
    show()
    show(
        f"{arm}: {new} against {old}: {found['n']} questions, +{found['won']} -{found['lost']}", style="bold"
    )
    for name in ("won", "lost"):
        listed = found[f"{name}_questions"]
        for flipped in listed:
            show()
            show_field(name, flipped["question"], 2)
            show_field("truth", str(flipped["truth"]), 2)
            for side in ("old", "new"):
                text = flipped[side]
                show_field(side, "(the request failed)" if text is None else text, 2)
        if more := found[name] - len(listed):
            show(f"{more} more {name}: --limit {found[name]} lists them all", 2)


if __name__ == "__main__":
    main(compare)
