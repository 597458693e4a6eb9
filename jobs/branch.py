"""Start a run from a round of another: python -m jobs.branch SOURCE --to DIR --round K --set KEY=VALUE"""

from typing import Annotated

import typer

from jobs.common import OldOutOption, SetOption, check_run, main, one_name, say
from pipeline.branch import branch as branch_run
from pipeline.config import load_recipe
from pipeline.errors import ConfigError
from pipeline.rundir import RunDir


def branch(
    source: Annotated[str, typer.Argument(help="run directory to branch from")],
    to: Annotated[str | None, typer.Option("--to", help="new run directory", show_default=False)] = None,
    round: Annotated[int, typer.Option("--round", min=0, help="last round that both runs share")] = 0,
    set: SetOption = None,
    out: OldOutOption = None,
) -> None:
    """Create a run that shares the first rounds of another and continues with other settings.

    It also shares the next round's stages up to the first one that the new settings configure differently.
    """
    chosen = one_name(to, out)
    if chosen is None:
        raise ConfigError("--to is missing: the new run directory")
    check_run(source, "SOURCE")
    check_run(chosen, "--to")
    directory, target = RunDir(source), RunDir(chosen)
    directory.recipe()  # raises when there is no run
    branch_run(directory, target, load_recipe(directory.path("run.yaml"), set or ()), round)
    say(
        f"{target.root}: shares rounds 0 to {round} with {directory.root}. "
        f"Continue with: selfloop iterate {target.path('run.yaml')} --run {target.root}"
    )


if __name__ == "__main__":
    main(branch)
