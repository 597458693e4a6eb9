"""Which questions a round asks: all training tasks, or a seeded draw of them, by pass rate if wanted."""

import functools
from collections import Counter
from collections.abc import Iterable, Iterator

import orjson

from pipeline.console import console
from pipeline.errors import StageError
from pipeline.ids import digest, unit_interval
from pipeline.round import Input, Round, input_of
from pipeline.rows import Row
from pipeline.runner.stage import given_to
from pipeline.stage import STAGES


def drawn(round_: Round) -> Input:
    """Return the questions a round draws; with new_questions, from those that no earlier round has asked, and
    with `draw`, from those whose pass rate is in its bounds.

    Raises StageError when too few new ones, or none in the bounds, are left.
    """
    run, recipe, number = round_.run, round_.recipe, int(round_.number)
    everything = input_of(run, run.tasks("train"))
    wanted = recipe.questions_per_round
    selective = recipe.new_questions or recipe.draw.by_pass_rate
    if not selective and (wanted is None or wanted >= everything.count):
        return everything
    left = {row.id for row in everything.rows()}
    if recipe.draw.by_pass_rate:
        left = _in_bounds(round_, left)
    wanted = len(left) if wanted is None else wanted
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


def _in_bounds(round_: Round, ids: set[str]) -> set[str]:
    """Return the questions that recipe.draw lets a round ask. Raises StageError if there are none."""
    draw, rates = round_.recipe.draw, pass_rates(round_)
    inside = {i for i in ids if i not in rates or draw.min_pass_rate <= rates[i] <= draw.max_pass_rate}
    bounds = f"a pass rate from {draw.min_pass_rate:g} to {draw.max_pass_rate:g}, or have not been asked"
    if not inside:
        raise StageError(
            f"round {round_.number}: none of {len(ids)} questions have {bounds} (draw). Provide more tasks, "
            f"or continue with other bounds: selfloop branch {round_.run.root} --to DIR "
            f"--round {int(round_.number) - 1} --set draw.max_pass_rate=1"
        )
    if len(inside) < (round_.recipe.questions_per_round or len(ids)):
        said = f"round {round_.number} asks the {len(inside)} of {len(ids)} questions that have {bounds}"
        console.print(said, markup=False, style="dim")
    return inside


def pass_rates(round_: Round) -> dict[str, float]:
    """Return each question's share of right answers in the last earlier round that asked it, by task id.

    Right is what verify kept. Whatever the stages after generate dropped counts as not right, also what was
    cut off or could not be read; failed rows count as not asked.
    """
    rates: dict[str, float] = {}
    for earlier in round_.earlier(1):
        right = Counter(row.payload["task_id"] for row in earlier.input("verify").rows())
        dropped = (
            orjson.loads(reject["payload"])["task_id"]
            for stage in STAGES[1:]
            for reject in earlier.run.rejects(earlier.folder(stage), "dropped")
        )
        answers = right + Counter(dropped)
        rates |= {question: right[question] / count for question, count in answers.items()}
    return rates


def _draw(ids: Iterable[str], seed: int, round_: int, wanted: int) -> frozenset[str]:
    return frozenset(sorted(ids, key=lambda i: unit_interval(seed, "questions", round_, i))[:wanted])


def _only(source: Input, chosen: frozenset[str]) -> Iterator[Row]:
    return (row for row in source.rows() if row.id in chosen)
