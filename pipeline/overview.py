"""What there is of a run, in numbers: how far each stage of each round is, read without a lock while it may be running."""

from collections.abc import Iterator
from typing import Any

import orjson
import yaml

from pipeline.errors import SelfloopError
from pipeline.methods import PROPOSE, RESUMED, STAGES, TRAIN, TRAIN_SFT
from pipeline.rundir import RoundKey, RunDir
from pipeline.store import files, parts
from pipeline.store.manifest import Manifest
from pipeline.store.parts import Counts

DONE, UNDER_WAY, NOT_BEGUN = "done", "under way", "not begun"
TRAININGS = (TRAIN_SFT, TRAIN)
ROUND_STAGES = (PROPOSE, *STAGES, "publish", "pairs", *TRAININGS, "evaluate")


def overview(run: RunDir) -> dict[str, Any]:
    """Return the facts of a run. Keys are stable: `inspect --json` prints them. Raises SelfloopError when there is no run."""
    recipe = recipe_of(run)
    engine = recipe["engine"]
    return {
        "run": run.root,
        "name": recipe["name"],
        "method": recipe["method"]["name"],
        "model": recipe["model"]["base"],
        "engine": engine["kind"]
        + (f" {engine['model']} at {engine['base_url']}" if {"model", "base_url"} <= engine.keys() else ""),
        "tasks": {
            which: m.rows_out if (m := run.manifest(run.tasks(which))) else None
            for which in (
                "train",
                "held_out",
                "demonstrations",
                *(f"sets/{name}" for name in evaluation_sets(recipe)),
            )
        },
        "rounds": [_round(run, r, recipe) for r in rounds_of(run, recipe)],
    }


def recipe_of(run: RunDir) -> dict[str, Any]:
    """Return the frozen recipe as it stands in run.yaml; a method that cannot be imported here is no hindrance to looking at a run."""
    if not files.exists(run.root):
        raise SelfloopError(
            f"{run.root}: there is no such folder. Start a run with: selfloop iterate RECIPE --run {run.root}"
        )
    if not run.exists():
        raise SelfloopError(
            f"{run.root}: no run here (run.yaml is missing). Start one with: selfloop iterate RECIPE --run {run.root}"
        )
    try:
        found = yaml.safe_load(files.read_bytes(run.path("run.yaml")))
        if not found["method"]["name"] or not found["model"]["base"] or not found["engine"]["kind"]:
            raise TypeError
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        raise SelfloopError(
            f"{run.path('run.yaml')}: this is not the recipe of a run. Was it changed by hand?"
        ) from None
    return found


def rounds_of(run: RunDir, recipe: dict[str, Any]) -> list[RoundKey]:
    """Return the rounds that are planned or that there is something of: "base" first, then by number."""
    planned: set[RoundKey] = {*range(1, recipe["rounds"] + 1), *([0] if recipe.get("demonstrations") else [])}
    if recipe["evaluate"]["base_model"]:
        planned.add("base")
    return sorted(planned | set(run.rounds()), key=lambda r: -1 if isinstance(r, str) else r)


def stages_of(round_: RoundKey, recipe: dict[str, Any], run: RunDir) -> tuple[str, ...]:
    """Return the names of the stages that a round has under a recipe.

    Only a method that makes questions of its own proposes, and not in every round; only DPO needs pairs, only sft_then_dpo trains twice, and each set
    of evaluate.sets has a stage of its own. Where failed attempts are gone on from, that is the last one.
    """
    sets = tuple(f"evaluate-{name}" for name in evaluation_sets(recipe))
    sets += (RESUMED,) if files.exists(run.stage(round_, RESUMED)) else ()
    if round_ == "base":
        return ("evaluate", *sets)
    if round_ == 0:
        return ("publish", TRAIN, "evaluate", *sets)
    kind = recipe["train"].get("kind", "sft")
    absent = {"sft": {"pairs", TRAIN_SFT}, "cpt": {"pairs", TRAIN_SFT}, "dpo": {TRAIN_SFT}}.get(kind, set())
    absent = absent if files.exists(run.stage(round_, PROPOSE)) else {*absent, PROPOSE}
    return (*(name for name in ROUND_STAGES if name not in absent), *sets)


def evaluation_sets(recipe: dict[str, Any]) -> list[str]:
    """Return the names of evaluate.sets; a run of an older version has none."""
    return list(recipe["evaluate"].get("sets") or {})


def stage_facts(run: RunDir, round_: RoundKey, stage: str) -> dict[str, Any]:
    """Return a stage's counts: its manifest's, or those of the parts it has so far. in = done + dropped + failed holds in both.

    `expected` is how many rows go in, when that is known; `steps` is what steps over all rows dropped after that.
    """
    folder = run.stage(round_, stage)
    manifest = run.manifest(folder)
    if manifest:
        return {"state": DONE, "expected": manifest.rows_in, **of_manifest(manifest)}
    counts = so_far(folder)
    begun = files.exists(files.join(folder, "fingerprint.json"))
    return {
        "state": UNDER_WAY if begun else NOT_BEGUN,
        "expected": _expected(run, round_, stage),
        "in": counts.rows_in,
        "done": counts.done,
        "dropped": counts.dropped,
        "failed": counts.failed,
        "steps": [],
        "out": counts.out,
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "requests_sent": counts.sent,
        "requests_from_log": counts.from_log,
        "seconds": None,
        "passes_through": None,
        "model": None,
        "facts": {},
    }


def so_far(folder: str) -> Counts:
    """Return the counts of the parts that an unfinished stage has written."""
    counts = Counts()
    for path in row_parts(folder):
        try:
            for part in parts.committed(*path.rsplit("/", 1)):
                counts.add(part.counts)
        except FileNotFoundError:  # the running stage took it away meanwhile
            continue
    return counts


def row_parts(folder: str) -> list[str]:
    """Return the parts that the stage's function wrote, not those of steps over all rows."""
    found = files.glob(files.join(folder, "rows"), "part-*.arrow") or files.glob(folder, "part-*.arrow")
    return [p for p in found if not p.rsplit("/", 1)[1].startswith("part-step-")]


def train_facts(run: RunDir, round_: RoundKey, name: str = TRAIN) -> dict[str, Any]:
    """Return how far a training of a round is: its result, or its last progress line."""
    folder = run.stage(round_, name)
    done, progress = files.join(folder, "train.json"), files.join(folder, "progress.jsonl")
    if files.exists(done):
        result = files.read_json(done)
        result["model"] = run.path(
            "models", result["model"].rstrip("/").rsplit("/", 1)[-1]
        )  # where the run is now, not where it was trained
        return {"state": DONE, "result": result, "progress": None}
    if not files.exists(folder):
        return {"state": NOT_BEGUN, "result": None, "progress": None}
    return {"state": UNDER_WAY, "result": None, "progress": _last_line(progress)}


def published(run: RunDir, round_: RoundKey) -> list[dict[str, Any]]:
    """Return the datasets that a round published: kind, folder, rows and what they are called."""
    if isinstance(round_, str):
        return []
    return list(_datasets(run, round_))


def _datasets(run: RunDir, round_: int) -> Iterator[dict[str, Any]]:
    from pipeline.publish.kinds import (  # here: it takes a second, which a look at stages need not wait
        KINDS,
        SFT,
    )

    for kind in files.glob(run.path("datasets"), "*"):
        folder = files.join(kind, f"round-{round_:03d}")
        path = files.join(folder, "manifest.json")
        if files.exists(path):
            facts = files.read_json(path)
            name = kind.rstrip("/").rsplit("/", 1)[1]
            yield {
                "kind": name,
                "unit": KINDS.get(
                    name.partition("-")[0], SFT
                ).unit,  # sft-generator: the examples of one role
                "path": folder,
                **{k: facts.get(k) for k in ("rows", "real", "synthetic", "digest")},
            }


def _round(run: RunDir, round_: RoundKey, recipe: dict[str, Any]) -> dict[str, Any]:
    names = stages_of(round_, recipe, run)
    return {
        "round": round_,
        "stages": {name: stage_facts(run, round_, name) for name in names if name not in TRAININGS},
        "train": None if round_ == "base" else train_facts(run, round_),
        **({TRAIN_SFT: train_facts(run, round_, TRAIN_SFT)} if TRAIN_SFT in names else {}),
        "datasets": published(run, round_),
        "evaluation": files.read_json(path) if files.exists(path := run.evaluation(round_)) else None,
    }


def of_manifest(m: Manifest) -> dict[str, Any]:
    """Return a done stage's counts, under the keys that `stage_facts` has."""
    return {
        "in": m.rows_in,
        "done": m.rows_done,
        "dropped": m.rows_dropped,
        "failed": m.rows_failed,
        "steps": [s.model_dump(mode="json") for s in m.steps],
        "out": m.rows_out,
        "prompt_tokens": m.tokens.prompt,
        "completion_tokens": m.tokens.completion,
        "requests_sent": m.requests.sent,
        "requests_from_log": m.requests.from_log,
        "seconds": m.seconds,
        "passes_through": m.passes_through,
        "model": m.model or None,
        "facts": m.extra,
    }


def _expected(run: RunDir, round_: RoundKey, stage: str) -> int | None:
    if stage == "generate":
        tasks, drawn = run.manifest(run.tasks("train")), recipe_of(run).get("questions_per_round")
        proposed = m.rows_out if (m := run.manifest(run.stage(round_, PROPOSE))) else 0
        return min(tasks.rows_out, drawn or tasks.rows_out) + proposed if tasks else None
    if stage in (PROPOSE, "pairs", RESUMED):
        return None  # how many answers are wrong is known when it begins, and how many requests for questions there are
    before = {
        "evaluate": run.tasks("held_out"),
        "publish": run.tasks("demonstrations") if round_ == 0 else run.stage(round_, STAGES[-1]),
    }
    before |= {f"evaluate-{name}": run.tasks(f"sets/{name}") for name in evaluation_sets(recipe_of(run))}
    folder = before[stage] if stage in before else run.stage(round_, STAGES[STAGES.index(stage) - 1])
    manifest = run.manifest(folder)
    return manifest.rows_out if manifest else None


def _last_line(path: str) -> dict[str, Any] | None:
    lines = files.read_bytes(path).split(b"\n")[:-1] if files.exists(path) else []
    for line in reversed(lines):
        try:
            return orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
    return None
