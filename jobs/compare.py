"""Runs side by side, grouped by method and policy: python -m jobs.compare RUN RUN ..."""

import json
from typing import Annotated

import typer

from jobs.common import existing_runs, main
from stages.reports.comparison import compare as compare_runs


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="run directories; those that differ in their seed alone are one arm")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="print the facts as JSON as well")] = False,
) -> None:
    """Print the accuracy by round of each arm, and its gain over round 0 with a 95% paired bootstrap interval."""
    facts = compare_runs(existing_runs(runs))
    if as_json:
        print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main(compare)
