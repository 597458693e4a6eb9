"""Train the model of one round: python -m jobs.train --run DIR --round K"""

import asyncio

from jobs.common import AddressOption, RecipeOption, RoundOption, RunOption, SetOption, main, open_run
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze


def train(
    run: RunOption,
    round: RoundOption,
    recipe: RecipeOption = None,
    set: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Publish a round's rows, unless that is done, and train on the accumulated data."""
    with open_run(run, recipe, set, address) as (directory, settings):
        freeze(directory, settings)
        asyncio.run(_run(Loop(directory, settings), round))


async def _run(loop: Loop, round_: int) -> None:
    await loop.publish(round_)
    await loop.train(round_)


if __name__ == "__main__":
    main(train)
