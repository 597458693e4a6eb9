"""How many texts of continued pretraining name the answer of a closed-book question, and what that is worth.

Reported only, as nothing that is trained on may depend on held-out questions.
"""

import bisect
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.publish.kinds import CPT
from pipeline.publish.schema import SPLIT
from pipeline.rundir import RunDir
from pipeline.store import files
from stages.rounds.closed_book import right_option
from stages.rounds.measures import STAGE

BOUNDS = (1, 2, 4)  # texts: none, one, two or three, more
NAMES = ("in none", "in one", "in 2 or 3", "in 4 or more")


class Covered(NamedTuple):
    """Questions whose right answer is named by so many texts."""

    texts: str
    questions: int
    right: int


def coverage(run: RunDir, round_: int) -> list[Covered]:
    """Return the questions of a round's evaluation by the number of the run's texts, up to that round, that
    have the right option word for word, whatever its case; [] if a question has no options.
    """
    asked = [
        (right_option(row.payload), bool(row.payload["greedy"]["correct"]))
        for row in run.rows(run.stage(round_, STAGE))
    ]
    options = [(option.casefold(), right) for option, right in asked if option is not None]
    if len(options) < len(asked):
        return []
    named = {option: 0 for option, _ in options}
    for text in _texts(run, round_):
        for option in named:
            named[option] += option in text
    level = [(bisect.bisect(BOUNDS, named[option]), right) for option, right in options]
    counts = [[right for at, right in level if at == i] for i in range(len(NAMES))]
    return [Covered(name, len(of), sum(of)) for name, of in zip(NAMES, counts, strict=True) if of]


def _texts(run: RunDir, last: int) -> Iterator[str]:
    """Yield the texts of the rounds up to `last`, in lower case."""
    from datasets import load_from_disk  # takes a second to import

    for number in range(1, last + 1):
        if files.exists(folder := run.dataset(CPT.name, number)):
            for row in load_from_disk(folder)[SPLIT].select_columns(["text"]):
                yield row["text"].casefold()


def sentence(covered: list[Covered]) -> str:
    """Say it in a line."""
    parts = (f"{c.texts} {c.questions} ({c.right / c.questions:.0%} right)" for c in covered)
    return f"right answers named by the texts: {', '.join(parts)}"
