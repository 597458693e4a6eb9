"""A run in numbers: how far each stage of each round is. Takes no lock: the run may be in progress."""

from posixpath import basename
from typing import Any

import orjson

from pipeline.config import stored_data
from pipeline.errors import SelfloopError
from pipeline.publish.kinds import KINDS, SFT
from pipeline.rundir import RoundKey, RunDir, round_name
from pipeline.stage import ANSWER, LABELS, PAIRS, PROPOSE, PUBLISH, RESUMED, STAGES, TRAIN, TRAIN_SFT
from pipeline.store import files, parts
from pipeline.store.manifest import Manifest
from pipeline.store.parts import Counts

DONE, UNDER_WAY, NOT_BEGUN = "done", "under way", "not begun"
TRAININGS = (TRAIN_SFT, TRAIN)
ROUND_STAGES = (PROPOSE, *STAGES, PUBLISH, PAIRS, LABELS, *TRAININGS, "evaluate")
_BY_KIND = {"dpo": PAIRS, "kto": LABELS}  # what else a round has, by the end of train.kind


def overview(run: RunDir) -> dict[str, Any]:
    """Return a run's state. Keys are stable: `inspect --json` prints them. Raises SelfloopError if no run."""
    recipe = recipe_of(run)
    engine = recipe["engine"]
    endpoint = f" {engine['model']} at {engine['base_url']}" if "base_url" in engine else ""
    tasks = ("train", "held_out", "demonstrations", *(f"sets/{name}" for name in evaluation_sets(recipe)))
    return {
        "run": run.root,
        "name": recipe["name"],
        "method": recipe["method"]["name"],
        "model": recipe["model"]["base"],
        "engine": engine["kind"] + endpoint,
        "tasks": {which: _rows_out(run, run.tasks(which)) for which in tasks},
        "rounds": [_round(run, r, recipe) for r in rounds_of(run, recipe)],
    }


def recipe_of(run: RunDir) -> dict[str, Any]:
    """Return run.yaml as it is stored; a method that cannot be imported here must not hide the run."""
    start = f"selfloop iterate RECIPE --run {run.root}"
    if not files.exists(run.root):
        raise SelfloopError(f"{run.root}: no such folder. Start a run with: {start}")
    if not run.exists():
        raise SelfloopError(f"{run.root}: no run here (run.yaml is missing). Start one with: {start}")
    path = run.path("run.yaml")
    recipe, _ = stored_data(path)
    texts = (recipe["method"].get("name"), recipe["model"].get("base"), recipe["engine"].get("kind"))
    expected = isinstance(recipe.get("rounds"), int) and isinstance(
        recipe["evaluate"].get("base_model"), bool
    )
    if not expected or not all(isinstance(text, str) for text in (recipe.get("name"), *texts)):
        raise SelfloopError(f"{path}: not the recipe of a run. Was it changed by hand?")
    return recipe


def rounds_of(run: RunDir, recipe: dict[str, Any]) -> list[RoundKey]:
    """Return the rounds that are planned or have files: "base" first, then by number."""
    planned: set[RoundKey] = {*range(1, recipe["rounds"] + 1), *([0] if recipe.get("demonstrations") else [])}
    if recipe["evaluate"]["base_model"]:
        planned.add("base")
    return sorted(planned | set(run.rounds()), key=lambda r: -1 if isinstance(r, str) else r)


def is_done(run: RunDir, round_: RoundKey, stage: str) -> bool:
    """Tell whether a stage or training has left its record, the last file that it writes."""
    record = "train.json" if stage in TRAININGS else "manifest.json"
    return files.exists(files.join(run.stage(round_, stage), record))


def stages_of(round_: RoundKey, recipe: dict[str, Any], run: RunDir) -> tuple[str, ...]:
    """Return the names of a round's stages under a recipe, in order.

    `propose`, the resumption of failed attempts and answers for a judge are listed if they exist; `pairs`,
    `labels` and a second training depend on train.kind; each of evaluate.sets has a stage of its own.
    """
    names = evaluation_sets(recipe)
    answered = (ANSWER, *(f"{ANSWER}-{name}" for name in names))
    evaluated = tuple(name for name in answered if files.exists(run.stage(round_, name)))
    evaluated += ("evaluate", *(f"evaluate-{name}" for name in names))
    evaluated += (RESUMED,) if files.exists(run.stage(round_, RESUMED)) else ()
    if round_ == "base":
        return evaluated
    if round_ == 0:
        return ("publish", TRAIN, *evaluated)
    both, _, last = recipe["train"].get("kind", "sft").rpartition("_then_")
    absent = {PAIRS, LABELS, TRAIN_SFT} - {_BY_KIND.get(last), TRAIN_SFT if both else None}
    absent |= set() if files.exists(run.stage(round_, PROPOSE)) else {PROPOSE}
    return (*(name for name in ROUND_STAGES if name not in {*absent, "evaluate"}), *evaluated)


def evaluation_sets(recipe: dict[str, Any]) -> list[str]:
    """Return the names of evaluate.sets; runs of older versions have none."""
    return list(recipe["evaluate"].get("sets") or {})


def stage_facts(run: RunDir, round_: RoundKey, stage: str) -> dict[str, Any]:
    """Return a stage's counts, from its manifest or from the parts written so far; rows add up in both.

    `expected` is how many rows go in, if known; `steps` lists what the steps over all rows dropped.
    """
    folder = run.stage(round_, stage)
    manifest = run.manifest(folder)
    if manifest:
        return {"state": DONE, "expected": manifest.rows_in, **of_manifest(manifest)}
    begun = files.exists(files.join(folder, "fingerprint.json"))
    counts = Counts()
    for path in row_parts(folder):
        try:
            counts.add(parts.counts_of(path))
        except FileNotFoundError:  # the running stage removed it
            continue
    rows = {"rows_in": counts.rows_in, "rows_done": counts.done, "rows_out": counts.out}
    so_far = Manifest.model_validate(
        {"stage": stage, "round": round_, "method": "", "fingerprint": "", **rows}
    )
    so_far.add_up(counts)
    state, expected = UNDER_WAY if begun else NOT_BEGUN, _expected(run, round_, stage)
    return {"state": state, "expected": expected, **of_manifest(so_far), "seconds": None}


def of_manifest(m: Manifest) -> dict[str, Any]:
    """Return the counts of a manifest, under the keys of `stage_facts`."""
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


def row_parts(folder: str) -> list[str]:
    """Return the parts that the stage's function wrote, without those of steps over all rows."""
    paths = files.glob(files.join(folder, "rows"), "part-*.arrow") or files.glob(folder, "part-*.arrow")
    return [p for p in paths if not basename(p).startswith("part-step-")]


def train_facts(run: RunDir, round_: RoundKey, name: str = TRAIN) -> dict[str, Any]:
    """Return the state of a round's training: its result, or its last progress line."""
    folder = run.stage(round_, name)
    done, progress = files.join(folder, "train.json"), files.join(folder, "progress.jsonl")
    if files.exists(done):
        result = files.read_json(done)
        # Where the run is now, which may not be where it was trained.
        result["model"] = run.path("models", basename(result["model"].rstrip("/")))
        return {"state": DONE, "result": result, "progress": None}
    if not files.exists(folder):
        return {"state": NOT_BEGUN, "result": None, "progress": None}
    return {"state": UNDER_WAY, "result": None, "progress": _last_line(progress)}


def published(run: RunDir, round_: RoundKey) -> list[dict[str, Any]]:
    """Return the datasets that a round published: kind, unit (what a row is called), folder and counts."""
    datasets = []
    for kind in files.glob(run.path("datasets"), "*"):
        name = basename(kind.rstrip("/"))
        folder = files.join(kind, f"round-{round_name(round_)}")
        path = files.join(folder, "manifest.json")
        if files.exists(path):
            manifest, unit = files.read_json(path), KINDS.get(name.partition("-")[0], SFT).unit  # sft-<role>
            counts = {k: manifest.get(k) for k in ("rows", "real", "synthetic", "digest")}
            datasets.append({"kind": name, "unit": unit, "path": folder, **counts})
    return datasets


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


def _expected(run: RunDir, round_: RoundKey, stage: str) -> int | None:
    recipe = recipe_of(run)
    if stage == "generate":
        tasks = _rows_out(run, run.tasks("train"))
        if tasks is None:
            return None
        drawn = recipe.get("questions_per_round") or tasks
        return min(tasks, drawn) + (_rows_out(run, run.stage(round_, PROPOSE)) or 0)
    if stage in (PROPOSE, PAIRS, LABELS, RESUMED):
        return None  # known only once the stage begins
    if stage == ANSWER or stage.startswith(f"{ANSWER}-"):
        name = stage.removeprefix(ANSWER).removeprefix("-")
        return _rows_out(run, run.tasks(f"sets/{name}" if name else "held_out"))
    sources = {f"evaluate-{name}": run.tasks(f"sets/{name}") for name in evaluation_sets(recipe)} | {
        "evaluate": run.tasks("held_out"),
        "publish": run.tasks("demonstrations") if round_ == 0 else run.stage(round_, STAGES[-1]),
    }
    return _rows_out(run, sources.get(stage) or run.stage(round_, STAGES[STAGES.index(stage) - 1]))


def _rows_out(run: RunDir, folder: str) -> int | None:
    return m.rows_out if (m := run.manifest(folder)) else None


def _last_line(path: str) -> dict[str, Any] | None:
    lines = files.read_bytes(path).split(b"\n")[:-1] if files.exists(path) else []
    for line in reversed(lines):
        try:
            return orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
    return None
