"""A round's judged answers: what verify found right, and what it dropped as wrong, the answers of one question together."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import orjson

from pipeline.ids import digest, unit_interval
from pipeline.round import Input, input_of
from pipeline.rows import Row
from pipeline.rundir import RunDir
from pipeline.store import files, parts

# Reasons with which verify drops an answer as wrong: against the truth, or against the vote. An answer that could not be read
# (no mark, several candidates) is not among them: that it is wrong is not known.
WRONG = ("wrong_answer", "minority")
ROWS_AT_ONCE = 50_000  # held in memory to put the answers of a question together


def judged_answers(run: RunDir, round_: int) -> Input:
    """Return a round's right and wrong answers as a stage's input; payload["verdict"]["correct"] tells them apart.

    They come question by question. Memory is bounded: everything is read once for every ROWS_AT_ONCE answers. Raises StageError
    when verify is not done.
    """
    folder = run.stage(round_, "verify")
    right, manifest = input_of(run, folder), run.manifest(folder)
    dropped = manifest.dropped_in_all() if manifest else {}
    count = right.count + sum(dropped.get(reason, 0) for reason in WRONG)
    marks = [parts.sha256(path) for path in files.glob(files.join(folder, "dropped"), "*.arrow")]
    return Input(
        partial(by_question, partial(_judged, run, folder), count),
        count,
        digest([right.digest, marks]),
        folder,
    )


def by_question(rows: Callable[[], Iterable[Row]], count: int, at_once: int = ROWS_AT_ONCE) -> Iterator[Row]:
    """Yield `count` rows so that those of one question (payload["task_id"]) come together, in an order that ids alone decide."""
    shares = max(1, math.ceil(count / at_once))
    for share in range(shares):
        group = [row for row in rows() if int(unit_interval(row.payload["task_id"]) * shares) == share]
        yield from sorted(group, key=lambda row: (row.payload["task_id"], row.id))


def _judged(run: RunDir, folder: str) -> Iterator[Row]:
    yield from run.rows(folder)
    yield from _wrong(run.rejects(folder, "dropped"))


def _wrong(rejects: Iterable[dict]) -> Iterator[Row]:
    for reject in rejects:
        if reject["reason"] in WRONG:
            verdict = {"correct": False, "problem": reject["reason"], "detail": reject["detail"]}
            yield Row(
                reject["id"], {**orjson.loads(reject["payload"]), "verdict": verdict}, reject["parents"]
            )
