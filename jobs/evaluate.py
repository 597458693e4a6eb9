"""One model on the held-out set: python -m jobs.evaluate --run DIR --round K (or --base)"""

import asyncio
from typing import Annotated

import typer

from jobs.common import AddressOption, RecipeOption, RunOption, SetOption, main, open_run, say
from pipeline.config import Recipe
from pipeline.errors import ConfigError
from pipeline.rundir import RoundKey, RunDir
from stages.reports.table import rounds_table
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze


def evaluate(
    run: RunOption,
    round: Annotated[
        int | None, typer.Option("--round", min=0, help="round whose model is evaluated")
    ] = None,
    base: Annotated[bool, typer.Option("--base", help="evaluate the untrained model instead")] = False,
    recipe: RecipeOption = None,
    set: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Measure a round's model on the held-out set, and print the table over rounds."""
    if (round is None) == (not base):
        raise ConfigError("choose the model to evaluate: --round K, or --base")
    key: RoundKey = "base" if round is None else round
    with open_run(run, recipe, set, address) as (directory, settings):
        freeze(directory, settings)
        asyncio.run(_run(directory, settings, key))
        rounds_table(directory)
        say(f"written: {directory.evaluation(key)}")


async def _run(run: RunDir, recipe: Recipe, round_: RoundKey) -> None:
    async with Loop(run, recipe) as loop:
        await loop.evaluate(round_)


if __name__ == "__main__":
    main(evaluate)
