"""Publish a round's verified rows as a dataset: python -m jobs.publish --run DIR --round K"""

from jobs.common import main
from jobs.showing import show
from jobs.stage import round_job
from pipeline.overview import published
from stages.rounds.loop import Loop


async def _publish(loop: Loop, round_: int) -> None:
    await loop.publish(round_)
    for dataset in published(loop.run, round_):
        show(f"published: {dataset['path']} ({dataset['rows']} {dataset['unit']})")


publish = round_job(
    "publish",
    "Write a round's verified rows (round 0: the demonstrations) and preference pairs as datasets.",
    _publish,
)

if __name__ == "__main__":
    main(publish)
