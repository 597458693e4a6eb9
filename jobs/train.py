"""Train the model of one round: python -m jobs.train --run DIR --round K"""

from jobs.common import main
from jobs.stage import round_job
from stages.rounds.loop import Loop


async def _train(loop: Loop, round_: int) -> None:
    await loop.publish(round_)
    await loop.train(round_)


train = round_job(
    "train", "Publish a round's rows, unless that is done, and train on the accumulated data.", _train
)

if __name__ == "__main__":
    main(train)
