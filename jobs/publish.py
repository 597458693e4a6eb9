"""Publish a round's verified rows as a dataset: python -m jobs.publish --run DIR --round K"""

import asyncio

from jobs.common import AddressOption, RecipeOption, RoundOption, RunOption, SetOption, main, open_run, say
from pipeline.overview import published
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze


def publish(
    run: RunOption,
    round: RoundOption,
    recipe: RecipeOption = None,
    set: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Write a round's verified rows (round 0: the demonstrations) and preference pairs as datasets."""
    with open_run(run, recipe, set, address) as (directory, settings):
        freeze(directory, settings)
        asyncio.run(Loop(directory, settings).publish(round))
        for dataset in published(directory, round):
            say(f"published: {dataset['path']} ({dataset['rows']} {dataset['unit']})")


if __name__ == "__main__":
    main(publish)
