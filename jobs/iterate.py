"""The whole loop, round after round: python -m jobs.iterate RECIPE [--run DIR] [--rounds N]"""

import asyncio
from typing import Annotated

import typer

from jobs.common import (
    AddressOption,
    SetOption,
    at_address,
    check_run,
    default_run,
    main,
    open_run,
    recipe_path,
    say,
)
from jobs.planning import show_plan
from pipeline import cluster, loop_display
from pipeline.checks.machine import Machine
from pipeline.config import Recipe, dump_recipe, load_recipe
from pipeline.errors import ConfigError
from pipeline.rundir import RunDir
from pipeline.store import files
from stages.reports import page
from stages.reports.table import rounds_table
from stages.rounds.loop import Loop
from stages.rounds.plan import plan as make_plan


def iterate(
    recipe: Annotated[str, typer.Argument(help="a YAML file, or a name that `selfloop recipes` lists")],
    run: Annotated[
        str | None, typer.Option("--run", help="run directory; default: data/runs/<name of the recipe>")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=0, help="rounds of self-training; default: the recipe's")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="print the recipe with every default, and exit")
    ] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="say what the run will take, and exit: tokens, minutes, memory, disk"),
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample", min=1, help="with --plan: measure it on this many questions", show_default=False
        ),
    ] = None,
    set: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Generate, critique, filter, verify, publish, train, evaluate, repeat. The same command resumes."""
    recipe = recipe_path(recipe)
    overrides = [*(set or ()), *([f"rounds={rounds}"] if rounds is not None else [])]
    settings = load_recipe(recipe, overrides)
    if print_config:
        print(dump_recipe(settings), end="")
        return
    if sample and not plan:
        raise ConfigError("--sample measures for --plan: give both.")
    folder = default_run(settings) if run is None else run
    if plan:
        _plan(settings, folder, sample or 0, address)
        return
    with open_run(folder, recipe, overrides, address) as (directory, settings):
        say(f"run: {directory.root}")
        with loop_display.shown(directory):
            asyncio.run(_run(directory, settings))
        rounds_table(directory)
        if files.exists(report := directory.path(page.NAME)):
            say(f"report, for a browser: {report}")
        say(f"inspect the results: selfloop inspect --run {directory.root}")


def _plan(recipe: Recipe, run: str, sample: int, address: str | None) -> None:
    cluster.check_run_path(run)
    check_run(run)
    show_plan(make_plan(at_address(recipe, address), RunDir(run), Machine.here(), sample))


async def _run(run: RunDir, recipe: Recipe) -> None:
    async with Loop(run, recipe) as loop:
        await loop.iterate(recipe.rounds)


if __name__ == "__main__":
    main(iterate)
