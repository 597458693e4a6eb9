"""A round's judged answers, grouped by question: those that verify kept, and those it dropped as wrong."""

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


def judged_answers(round_: Round) -> Input:
    """Return a round's right and wrong answers as a stage's input, grouped by question.

    payload["verdict"]["correct"] tells them apart; its score is there where verify had one. Memory is bounded
    (by_question). Raises StageError if verify is not done.
    """
    folder = round_.folder("verify")
    right, manifest = round_.input("verify"), round_.manifest("verify")
    dropped = manifest.dropped_in_all() if manifest else {}
    count = right.count + sum(dropped.get(reason, 0) for reason in wrong_reasons(round_.recipe))
    marks = [parts.sha256(path) for path in files.glob(files.join(folder, "dropped"), "*.arrow")]
    rows = partial(by_question, partial(_judged, round_), count)
    return Input(rows, count, digest([right.digest, marks]), folder)


def wrong_reasons(recipe: Recipe) -> tuple[str, ...]:
    """Return verify's reasons to drop an answer as wrong."""
    return WRONG if isinstance(recipe.verifier, str) else (*WRONG, REFUSED)


def _judged(round_: Round) -> Iterator[Row]:
    yield from round_.rows("verify")
    reasons = wrong_reasons(round_.recipe)
    for reject in round_.run.rejects(round_.folder("verify"), "dropped"):
        if reject["reason"] in reasons:
            payload = orjson.loads(reject["payload"])
            verdict = {"correct": False, "problem": reject["reason"], "detail": reject["detail"]}
            if (score := (payload.get("verdict") or {}).get("score")) is not None:
                verdict["score"] = score
            yield Row(reject["id"], {**payload, "verdict": verdict}, reject["parents"])
