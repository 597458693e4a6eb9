"""Runs side by side, grouped by method and policy: python -m jobs.compare RUN RUN ..."""

import io
import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from jobs.common import JsonOption, existing_runs, main
from jobs.showing import print_json
from stages.reports.comparison import compare as compare_runs


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="run directories; those that differ only in their seed are one arm")
    ],
    as_json: JsonOption = False,
) -> None:
    """Print each arm's accuracy by round, and its gain over round 0 with a 95% paired bootstrap interval."""
    # compare_runs prints tables as it goes.
    with redirect_stdout(io.StringIO() if as_json else sys.stdout):
        comparison = compare_runs(existing_runs(runs))
    if as_json:
        print_json(comparison)


if __name__ == "__main__":
    main(compare)
