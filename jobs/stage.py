"""The jobs that run part of one round: generate, critique, filter, verify, publish, train."""

import asyncio
from collections.abc import Awaitable, Callable

from jobs.common import AddressOption, RecipeOption, RoundOption, RunOption, SetOption, open_run
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze


def stage_job(name: str) -> Callable[..., None]:
    """Return the job that runs stage `name` of one round."""
    help_ = f"Run the {name} stage of one round, or resume it."
    return round_job(name, help_, lambda loop, round_: loop.stage(round_, name))


def round_job(name: str, help_: str, work: Callable[[Loop, int], Awaitable[object]]) -> Callable[..., None]:
    """Return a job that does `work` on one round of a run."""

    def run_round(
        run: RunOption,
        round: RoundOption,
        recipe: RecipeOption = None,
        set: SetOption = None,
        address: AddressOption = None,
    ) -> None:
        async def do() -> None:
            async with Loop(directory, settings) as loop:
                await work(loop, round)

        with open_run(run, recipe, set, address) as (directory, settings):
            freeze(directory, settings)
            asyncio.run(do())

    run_round.__name__ = name
    run_round.__doc__ = help_
    return run_round
