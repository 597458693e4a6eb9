"""What trackers are told of a run, from its directory: counts of stages, training curves, evaluations."""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline import overview
from pipeline.rundir import RoundKey, RunDir
from pipeline.stage import PROPOSE, STAGES
from pipeline.store import files
from pipeline.train_log import read_progress

BASE = -1  # the round of the base model
ROW_STAGES = (PROPOSE, *STAGES, "publish", "pairs")
COUNTS = ("prompt_tokens", "completion_tokens", "requests_sent")  # of stages that ask a model


class Point(NamedTuple):
    """Some figures of one stage of one round, by name (`verify/dropped`).

    `step` orders a stage's points: the optimizer step, counted over all rounds, in a training; the round
    elsewhere.
    """

    round: int
    stage: str
    step: int
    metrics: dict[str, float]


def points(run: RunDir) -> Iterator[Point]:
    """Yield the points of all that is done so far, in the order in which a run does it."""
    recipe = overview.recipe_of(run)
    trained = dict.fromkeys(overview.TRAININGS, 0)  # steps of earlier rounds
    for key in overview.rounds_of(run, recipe):
        number = BASE if isinstance(key, str) else key
        for stage in overview.stages_of(key, recipe, run):
            if stage in ROW_STAGES:
                yield from _stage(run, key, number, stage)
            elif stage in overview.TRAININGS:
                yield from _training(run, key, number, stage, trained)
        if files.exists(run.evaluation(key)):
            yield Point(number, "evaluate", number, _evaluation(files.read_json(run.evaluation(key))))


def _stage(run: RunDir, key: RoundKey, number: int, stage: str) -> Iterator[Point]:
    manifest = run.manifest(run.stage(key, stage))
    if manifest is None or manifest.passes_through:
        return
    facts = overview.of_manifest(manifest)
    reasons, failed = manifest.dropped_in_all(), sum(facts["failed"].values())
    dropped, out, seconds = sum(reasons.values()), facts["out"], facts["seconds"]
    metrics = {"in": facts["in"], "out": out, "dropped": dropped, "failed": failed}
    metrics |= {name: facts[name] for name in ("seconds", *(COUNTS if facts["requests_sent"] else ()))}
    if out + dropped + failed:
        metrics["kept_share"] = out / (out + dropped + failed)
    if seconds:
        metrics["rows_per_second"] = facts["in"] / seconds
        if facts["requests_sent"]:
            metrics["tokens_per_second"] = facts["completion_tokens"] / seconds
    metrics |= {f"dropped_as/{reason}": n for reason, n in reasons.items()}
    metrics |= {f"failed_as/{error}": n for error, n in facts["failed"].items()}
    yield Point(number, stage, number, _named(stage, metrics))


def _training(
    run: RunDir, key: RoundKey, number: int, stage: str, trained: dict[str, int]
) -> Iterator[Point]:
    folder = run.stage(key, stage)
    before = trained[stage]
    for line in read_progress(files.join(folder, "progress.jsonl")):
        curves = {name: value for name, value in line.items() if name not in ("step", "total", "seconds")}
        yield Point(number, stage, before + line["step"], _named(stage, curves))
        trained[stage] = before + line["step"]
    done = files.join(folder, "train.json")
    if files.exists(done):
        result = files.read_json(done)
        shares = {name: result["shares"].get(name) for name in ("real", "synthetic")}
        kept = {name: result.get(name) for name in ("examples", "left_out", "steps", "tokens", "seconds")}
        yield Point(number, f"{stage} done", number, _named(f"{stage}/round", kept | shares))


def _evaluation(evaluation: dict[str, Any]) -> dict[str, float]:
    metrics: dict[str, Any] = {"tokens": evaluation.get("tokens"), "seconds": evaluation.get("seconds")}
    for name, value in evaluation.items():
        if name.startswith("against_") and isinstance(value, dict):
            metrics |= _interval(f"gain_{name}", value.get("difference"))
            if name == "against_previous":
                metrics |= {"won": value.get("wrong_to_right"), "lost": value.get("right_to_wrong")}
        else:
            metrics |= _interval(name, value)
    if evaluation.get("n") and evaluation.get("parsed") is not None:
        metrics["readable_share"] = evaluation["parsed"] / evaluation["n"]
    for name, value in (evaluation.get("measures") or {}).items():
        metrics |= _interval(f"measures/{name}", value)
    named = _with_intervals("evaluate", metrics)
    for name, of_set in (evaluation.get("sets") or {}).items():
        of_set = {key: value for key, value in of_set.items() if not key.startswith("against_")}
        named |= _with_intervals(f"evaluate-{name}", _flat(of_set))
    return named


def _flat(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {key: v for name, value in evaluation.items() for key, v in _interval(name, value).items()}


def _with_intervals(prefix: str, metrics: dict[str, Any]) -> dict[str, float]:
    """Name figures. The ends of intervals get a section of their own: their charts would hide the rest."""
    ends = {name: value for name, value in metrics.items() if name.endswith(("_low", "_high"))}
    rest = {name: value for name, value in metrics.items() if name not in ends}
    return _named(prefix, rest) | _named(f"{prefix}-interval", ends)


def _interval(name: str, value: Any) -> dict[str, Any]:
    """Return a mean with its 95% interval as three figures; {} for what is none."""
    if not isinstance(value, dict) or "mean" not in value:
        return {}
    return {name: value["mean"], f"{name}_low": value.get("low"), f"{name}_high": value.get("high")}


def _named(prefix: str, metrics: dict[str, Any]) -> dict[str, float]:
    """Return the finite numbers, under names that every tracker takes. No name is a folder of another one:
    MLflow keeps each in a file of that name.
    """
    return {
        re.sub(r"[^\w/. -]", "_", f"{prefix}/{name.replace('@', '_at_')}"): value
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
