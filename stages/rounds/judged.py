"""A round's judged answers, grouped by question: those that verify kept, and those it dropped as wrong or as
worse than others.
"""

from collections.abc import Iterator
from functools import partial

import orjson

from pipeline.config import Recipe
from pipeline.ids import digest
from pipeline.round import Input, Round
from pipeline.rows import Row
from pipeline.store import files, parts
from stages.steps.grouping import by_question

# Verify's reasons to drop an answer as wrong: by the ground truth, or by the vote. An unreadable answer (no
# mark, several candidates) is not known to be wrong.
WRONG = ("wrong_answer", "minority")
REFUSED = "low_score"  # and by a model that judged it
# Reasons of methods that rank a question's answers: the last one counts as wrong, those between only have a
# score.
LOWEST, LOWER = "worst", "not_best"


def judged_answers(round_: Round, ranked: bool = False) -> Input:
    """Return a round's right and wrong answers as a stage's input, grouped by question.

    payload["verdict"] has `correct`, which tells them apart, and `score`, where verify had one. With
    `ranked`, answers between the best and the worst are there too. Memory is bounded (by_question). Raises
    StageError if verify is not done.
    """
    reasons = (*wrong_reasons(round_.recipe), LOWEST, *([LOWER] if ranked else []))
    folder = round_.folder("verify")
    right, manifest = round_.input("verify"), round_.manifest("verify")
    dropped = manifest.dropped_in_all() if manifest else {}
    count = right.count + sum(dropped.get(reason, 0) for reason in reasons)
    marks = [parts.sha256(path) for path in files.glob(files.join(folder, "dropped"), "*.arrow")]
    rows = partial(by_question, partial(_judged, round_, reasons), count)
    return Input(rows, count, digest([right.digest, marks]), folder)


def wrong_reasons(recipe: Recipe) -> tuple[str, ...]:
    """Return verify's reasons to drop an answer as wrong."""
    return WRONG if isinstance(recipe.verifier, str) else (*WRONG, REFUSED)


def _judged(round_: Round, reasons: tuple[str, ...]) -> Iterator[Row]:
    yield from round_.rows("verify")
    for reject in round_.run.rejects(round_.folder("verify"), "dropped"):
        if reject["reason"] in reasons:
            payload = orjson.loads(reject["payload"])
            why = {"correct": False, "problem": reject["reason"], "detail": reject["detail"]}
            payload["verdict"] = {**(payload.get("verdict") or {}), **why}
            yield Row(reject["id"], payload, reject["parents"])
