"""The job behind generate, critique, filter and verify."""

import asyncio
from collections.abc import Callable

from jobs.common import AddressOption, RecipeOption, RoundOption, RunOption, SetOption, open_run
from pipeline.config import Recipe
from pipeline.rundir import RunDir
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze


def stage_job(name: str) -> Callable[..., None]:
    """Return the job that runs stage `name` of one round."""

    def run_stage(
        run: RunOption,
        round: RoundOption,
        recipe: RecipeOption = None,
        set: SetOption = None,
        address: AddressOption = None,
    ) -> None:
        with open_run(run, recipe, set, address) as (directory, settings):
            freeze(directory, settings)
            asyncio.run(_run(directory, settings, round, name))

    run_stage.__name__ = name
    run_stage.__doc__ = f"Run the {name} stage of one round, or resume it."
    return run_stage


async def _run(run: RunDir, recipe: Recipe, round_: int, name: str) -> None:
    async with Loop(run, recipe) as loop:
        await loop.stage(round_, name)
