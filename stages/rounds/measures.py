"""What a round's evaluated rows add up to: accuracy with intervals, pass@k, maj@k, and the comparison with
other rounds.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from pipeline.config import Evaluate
from pipeline.protocols import Measures
from pipeline.round import Round
from pipeline.rows import Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.stage import ANSWER, RESUMED
from pipeline.statistics import flips, majority, paired_difference, pass_at_k, proportion, quantiles
from pipeline.store import files

STAGE = "evaluate"


def stage_name(name: str | None) -> str:
    """Return the name of the stage that evaluates the held-out set (None), or the set `name`."""
    return STAGE if name is None else f"{STAGE}-{name}"


def answer_name(name: str | None) -> str:
    """Return the name of the stage whose answers a model judges in the stage `stage_name(name)`."""
    return ANSWER if name is None else f"{ANSWER}-{name}"


def _failed(run: RunDir, round_: RoundKey, name: str | None) -> list[dict[str, Any]]:
    """Return the questions whose answer, or whose judgement, failed."""
    folders = (run.stage(round_, answer_name(name)), run.stage(round_, stage_name(name)))
    return [reject for folder in folders for reject in run.rejects(folder, "failed")]


def measures(round_: Round, name: str | None = None) -> dict[str, Any]:
    """Compute all measures of a round on a set. Unreadable answers and failed requests count as wrong.

    `parsed` of `n` answers could be read. `loose` is the accuracy if the others are read as well as they can
    be: what is far above `greedy` knows more than it writes in the format that was asked for.
    """
    settings, seed, stage = round_.recipe.evaluate, round_.recipe.seed, stage_name(name)
    run, number = round_.run, round_.number
    rows, lost = list(round_.rows(stage)), [0.0 for _ in _failed(run, number, name)]
    right, documents = correct_by_task(run, number, name), documents_by_task(run, number, name)
    clusters = [documents[i] for i in right] if documents else None
    found: dict[str, Any] = {
        "n": len(right),
        "failed": len(lost),
        "greedy": proportion(list(right.values()), settings.bootstrap, seed, clusters)._asdict(),
        "parsed": sum(row.payload["greedy"]["extracted"] is not None for row in rows),
        "mean_tokens": round(sum(row.payload["greedy"]["tokens"] for row in rows) / max(1, len(rows)), 1),
    }
    if documents:
        found["documents"] = len(
            set(documents.values())
        )  # what the intervals resample, except those of samples
    if rows and all("loose" in row.payload["greedy"] for row in rows):  # rows of older versions have none
        by_task = {row.payload["task_id"]: float(row.payload["greedy"]["loose"]) for row in rows}
        loose = [by_task.get(task, 0.0) for task in right]
        found["loose"] = proportion(loose, settings.bootstrap, seed, clusters)._asdict()
    if further := _further(round_, name, rows, lost):
        found["measures"] = further
    found |= _sampled(rows, lost, settings, seed)
    if any("refined" in row.payload for row in rows):
        found |= _refined(rows, lost, settings, seed)
    for against, other in (("previous", _previous(round_)), reference(round_)):
        if other is None or other == number or not files.exists(run.evaluation(other)):
            continue
        before = correct_by_task(run, other, name)
        lost_now, won_now = flips(before, right)
        found[f"against_{against}"] = {
            "round": other,
            "right_to_wrong": lost_now,
            "wrong_to_right": won_now,
            "difference": paired_difference(before, right, settings.bootstrap, seed, documents)._asdict(),
        }
    return found


def _further(round_: Round, name: str | None, rows: list[Row], lost: list[float]) -> dict[str, Any]:
    """Return the method's own measures, each with mean, interval and quantiles."""
    method, settings = round_.method, round_.recipe.evaluate
    values = method.measures(rows) if isinstance(method, Measures) else {}
    if scores := [s for row in rows if (s := row.payload["greedy"].get("score")) is not None]:
        values["judge's score"] = scores
    if nats := [n for row in rows if (n := row.payload["greedy"].get("nats")) is not None]:
        values["nats per token"] = nats
    if "score" in values:  # a failed episode scores 0, as it counts as no success
        values["score"] = [*values["score"], *lost]
    if name is None and round_.manifest(RESUMED):
        nothing = [0.0 for _ in round_.run.rejects(round_.folder(RESUMED), "failed")]
        values["resumed score"] = [r.payload["resumed"]["score"] for r in round_.rows(RESUMED)] + nothing
    return {
        measure: proportion(v, settings.bootstrap, round_.recipe.seed)._asdict()
        | {"n": len(v), **quantiles(v)}
        for measure, v in values.items()
        if v
    }


def _sampled(rows: Sequence[Row], lost: list[float], settings: Evaluate, seed: int) -> dict[str, Any]:
    """Return pass@k and maj@k of the sampled answers."""
    found, samples = {}, [row.payload["samples"] for row in rows]
    voting = all(
        "key" in s for drawn in samples for s in drawn
    )  # an episode has no answer that others could share
    fewest = min([settings.samples, *map(len, samples)])  # none, where a method measures texts its own way
    for k in [k for k in settings.k if k <= fewest]:
        passed = [pass_at_k(len(drawn), sum(s["correct"] for s in drawn), k) for drawn in samples]
        found[f"pass@{k}"] = proportion(passed + lost, settings.bootstrap, seed)._asdict()
        if k > 1 and voting:
            votes = [_majority_right(drawn, k) for drawn in samples]
            found[f"maj@{k}"] = proportion(votes + lost, settings.bootstrap, seed)._asdict()
    return found


def _refined(rows: Sequence[Row], lost: list[float], settings: Evaluate, seed: int) -> dict[str, Any]:
    """Return accuracy after refinement, the answers it won and lost, and maj@k of refined samples."""
    before, after = ([float(row.payload[key]["correct"]) for row in rows] for key in ("greedy", "refined"))
    changes = {
        "right_to_wrong": sum(a > b for a, b in zip(before, after, strict=True)),
        "wrong_to_right": sum(a < b for a, b in zip(before, after, strict=True)),
    }
    found = {"refined": proportion(after + lost, settings.bootstrap, seed)._asdict() | changes}
    for k in [k for k in settings.k if 1 < k <= settings.samples]:
        votes = [_majority_right(row.payload["refined_samples"], k) for row in rows]
        found[f"refined maj@{k}"] = proportion(votes + lost, settings.bootstrap, seed)._asdict()
    return found


def _majority_right(samples: list[dict[str, Any]], k: int) -> float:
    samples = samples[:k]
    chosen = majority([s["key"] for s in samples])
    return float(chosen is not None and any(s["correct"] for s in samples if s["key"] == chosen))


def correct_by_task(run: RunDir, round_: RoundKey, name: str | None = None) -> dict[str, float]:
    """Return for each task id of a set whether the greedy answer is right (1.0 or 0.0).

    A failed request counts as wrong.
    """
    folder = run.stage(round_, stage_name(name))
    right = {row.payload["task_id"]: float(row.payload["greedy"]["correct"]) for row in run.rows(folder)}
    return right | {_task(reject): 0.0 for reject in _failed(run, round_, name)}


def _task(reject: dict[str, Any]) -> str:
    """Return the id of a failed row's question: the row is that, or the answers to it."""
    return orjson.loads(reject["payload"]).get("task_id", reject["id"])


def documents_by_task(run: RunDir, round_: RoundKey, name: str | None = None) -> dict[str, str]:
    """Return the document that each question of a set is about; {} unless all of them name one
    (columns.document).
    """
    folder = run.stage(round_, stage_name(name))
    found = {row.payload["task_id"]: row.payload.get("document") for row in run.rows(folder)}
    for reject in _failed(run, round_, name):
        found[_task(reject)] = orjson.loads(reject["payload"]).get("document")
    return {} if None in found.values() else {i: str(document) for i, document in found.items()}


def _previous(round_: Round) -> RoundKey | None:
    """Return the round to compare a round with; without demonstrations, the first one's predecessor is the
    base model.
    """
    number = round_.number
    if isinstance(number, str):
        return None
    first = number == 0 or (number == 1 and not files.exists(round_.run.evaluation(0)))
    return "base" if first else number - 1


def reference(round_: Round) -> tuple[str, RoundKey]:
    """Return what all rounds are compared with: round 0, or the base model without demonstrations."""
    if round_.number == 0 or files.exists(round_.run.evaluation(0)):
        return ("round_0", 0)
    return ("base", "base")
