"""Which questions a round asks: all training tasks, or a seeded draw of them."""

import functools
from collections.abc import Iterable, Iterator

from pipeline.errors import StageError
from pipeline.ids import digest, unit_interval
from pipeline.round import Input, Round, input_of
from pipeline.rows import Row
from pipeline.runner.stage import given_to


def drawn(round_: Round) -> Input:
    """Return the questions a round draws; with new_questions, from those that no earlier round has asked.

    Raises StageError when too few are left.
    """
    run, recipe, number = round_.run, round_.recipe, int(round_.number)
    everything = input_of(run, run.tasks("train"))
    wanted = recipe.questions_per_round
    if wanted is None or (wanted >= everything.count and not recipe.new_questions):
        return everything
    left = {row.id for row in everything.rows()}
    for earlier in round_.earlier(1) if recipe.new_questions else ():
        # What was asked, not what would be drawn now: a branch may have another seed or questions_per_round.
        asked = given_to(run, earlier.folder("generate"))
        left -= asked or _draw(left, recipe.seed, int(earlier.number), wanted)
    if len(left) < wanted and recipe.new_questions:
        raise StageError(
            f"round {number}: {len(left)} of {everything.count} tasks have not been asked before, and "
            "questions_per_round is "
            f"{wanted}. Provide more tasks, fewer rounds or questions_per_round, or set new_questions: false."
        )
    chosen = _draw(left, recipe.seed, number, wanted)
    rows = functools.partial(_only, everything, chosen)
    return Input(rows, len(chosen), digest([everything.digest, sorted(chosen)]), everything.folder)


def _draw(ids: Iterable[str], seed: int, round_: int, wanted: int) -> frozenset[str]:
    return frozenset(sorted(ids, key=lambda i: unit_interval(seed, "questions", round_, i))[:wanted])


def _only(source: Input, chosen: frozenset[str]) -> Iterator[Row]:
    return (row for row in source.rows() if row.id in chosen)
