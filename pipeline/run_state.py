"""Where a run stands: finished, under way, stopped or failed, and at which stage. Takes no lock."""

import os
import time
from pathlib import Path
from typing import Any

from pipeline import overview
from pipeline.rundir import RoundKey, RunDir
from pipeline.store import files, lock

FINISHED, UNDER_WAY, STOPPED, FAILED = "finished", "under way", "stopped", "failed"
RECENT = 600  # seconds in which a driver on another machine, whose lock cannot be seen, has written something


def state_of(run: RunDir) -> dict[str, Any]:
    """Return a run's state, the stage it is at, its last evaluation and when it changed. Keys are stable.

    Raises SelfloopError where there is no run, or one that cannot be read.
    """
    recipe = overview.recipe_of(run)
    at = next_stage(run, recipe)
    changed = _changed(run, at)
    error = _error(run)
    if _is_driven(run, changed):
        state = UNDER_WAY
    else:
        state = FAILED if error else FINISHED if at is None else STOPPED
    return {
        "recipe": recipe["name"],
        "method": recipe["method"]["name"],
        "model": recipe["model"]["base"],
        "state": state,
        "round": at[0] if at else None,
        "stage": at[1] if at else None,
        "rows": _rows(run, *at) if at else None,
        "error": error if state == FAILED else None,
        "changed": changed,
        **_last_result(run, recipe),
    }


def next_stage(run: RunDir, recipe: dict[str, Any]) -> tuple[RoundKey, str] | None:
    """Return the first stage that is not done, as `iterate` would run them; None if all are."""
    for round_ in overview.rounds_of(run, recipe):
        if round_ == "base" and files.exists(run.path("branch.json")):
            continue
        for stage in overview.stages_of(round_, recipe, run):
            if not overview.is_done(run, round_, stage):
                return round_, stage
        if not files.exists(run.evaluation(round_)):
            return round_, "evaluate"
    return None


def _rows(run: RunDir, round_: RoundKey, stage: str) -> dict[str, Any] | None:
    if stage in overview.TRAININGS:
        return None
    facts = overview.stage_facts(run, round_, stage)
    return {"in": facts["in"], "expected": facts["expected"]}


def _last_result(run: RunDir, recipe: dict[str, Any]) -> dict[str, Any]:
    evaluated = [r for r in overview.rounds_of(run, recipe) if files.exists(run.evaluation(r))]
    if not evaluated:
        return {}
    evaluation = files.read_json(run.evaluation(evaluated[-1]))
    return {"evaluated": evaluated[-1], "n": evaluation.get("n"), "greedy": evaluation.get("greedy")}


def _error(run: RunDir) -> str | None:
    path = run.path("error.json")
    return files.read_json(path).get("error") if files.exists(path) else None


def _is_driven(run: RunDir, changed: float | None) -> bool:
    """Tell whether a driver works on the run."""
    if run.local is None:
        return False
    held, elsewhere = lock.driver(run.local)
    return held or (elsewhere and time.time() - (changed or 0) < RECENT)


def _changed(run: RunDir, at: tuple[RoundKey, str] | None) -> float | None:
    """Return when the run last wrote something, in seconds since 1970; None on an object store."""
    if run.local is None:
        return None
    places = [run.local, run.local / "evaluation", run.local / "run.yaml"]
    if at:
        stage = Path(run.stage(*at))
        places += [stage, *stage.glob("*"), *stage.glob("requests/*")]
    return max((p.stat().st_mtime for p in places if os.path.exists(p)), default=None)
