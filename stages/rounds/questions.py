"""Which questions a round asks: all training tasks, or a seeded draw of them, by pass rate if wanted."""

from collections.abc import Iterator
from functools import partial
from itertools import compress

import numpy as np
import orjson
import pyarrow as pa

from pipeline.console import console
from pipeline.errors import StageError
from pipeline.many_ids import Places, list_digest, unit_intervals
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
    ids = run.ids(everything.folder)
    left = _in_bounds(round_, Places(ids)) if recipe.draw.by_pass_rate else np.ones(len(ids), bool)
    wanted = int(left.sum()) if wanted is None else wanted
    if recipe.new_questions:
        left = _not_asked(round_, ids, left, wanted)
    if (count := int(left.sum())) < wanted and recipe.new_questions:
        raise StageError(
            f"round {number}: {count} of {everything.count} tasks have not been asked before, and "
            "questions_per_round is "
            f"{wanted}. Provide more tasks, fewer rounds or questions_per_round, or set new_questions: false."
        )
    chosen = _draw(ids, left, recipe.seed, number, wanted)
    mark = list_digest(everything.digest, ids.filter(pa.array(chosen)))
    return Input(partial(_only, everything, chosen), int(chosen.sum()), mark, everything.folder)


def _in_bounds(round_: Round, tasks: Places) -> np.ndarray:
    """Tell of each task whether recipe.draw lets a round ask it. Raises StageError if there are none."""
    draw, rates = round_.recipe.draw, pass_rates(round_, tasks)
    inside = np.isnan(rates) | ((draw.min_pass_rate <= rates) & (rates <= draw.max_pass_rate))
    count, of = int(inside.sum()), len(inside)
    bounds = f"a pass rate from {draw.min_pass_rate:g} to {draw.max_pass_rate:g}, or have not been asked"
    if not count:
        raise StageError(
            f"round {round_.number}: none of {of} questions have {bounds} (draw). Provide more tasks, "
            f"or continue with other bounds: selfloop branch {round_.run.root} --to DIR "
            f"--round {int(round_.number) - 1} --set draw.max_pass_rate=1"
        )
    if count < (round_.recipe.questions_per_round or of):
        said = f"round {round_.number} asks the {count} of {of} questions that have {bounds}"
        console.print(said, markup=False, style="dim")
    return inside


def pass_rates(round_: Round, tasks: Places) -> np.ndarray:
    """Return each task's share of right answers in the last earlier round that asked it, NaN if none has.

    Right is what verify kept. Whatever the stages after generate dropped counts as not right, also what was
    cut off or could not be read; failed rows count as not asked.
    """
    rates = np.full(len(tasks), np.nan)
    for earlier in round_.earlier(1):
        right = tasks.count(row.payload["task_id"] for row in earlier.input("verify").rows())
        dropped = tasks.count(
            orjson.loads(reject["payload"])["task_id"]
            for stage in STAGES[1:]
            for reject in earlier.run.rejects(earlier.folder(stage), "dropped")
        )
        asked = np.flatnonzero(right + dropped)
        rates[asked] = right[asked] / (right + dropped)[asked]
    return rates


def _not_asked(round_: Round, ids: pa.ChunkedArray, left: np.ndarray, wanted: int) -> np.ndarray:
    """Return `left` without what earlier rounds have asked."""
    left, tasks = left.copy(), Places(ids)
    for earlier in round_.earlier(1):
        asked = 0
        for given in given_to(round_.run, earlier.folder("generate")):
            left[tasks.of(given)] = False
            asked += len(given)
        # What was asked, not what would be drawn now: a branch may have another seed or questions_per_round.
        if not asked:
            left &= ~_draw(ids, left, round_.recipe.seed, int(earlier.number), wanted)
    return left


def _draw(ids: pa.ChunkedArray, left: np.ndarray, seed: int, round_: int, wanted: int) -> np.ndarray:
    """Tell of each task whether it is one of the `wanted` of those `left` with the smallest hashes."""
    places = unit_intervals(ids.filter(pa.array(left)), seed, "questions", round_)
    chosen = np.zeros(len(left), bool)
    chosen[np.flatnonzero(left)[np.argsort(places, kind="stable")[:wanted]]] = True
    return chosen


def _only(source: Input, chosen: np.ndarray) -> Iterator[Row]:
    return compress(source.rows(), chosen)
