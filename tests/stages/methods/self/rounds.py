"""Rounds of SELF through the real runner: a recipe with scripted answers, and what a run's files say."""

import json
from pathlib import Path
from typing import Any

from pipeline.config import Recipe
from pipeline.rundir import RunDir
from pipeline.stage import STAGES
from pipeline.store import request_log
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe

NEW = {"calls": 5, "shown": 4, "wanted": 6, "from_round": 2}


def recipe_in(
    folder: Path,
    model: Path,
    script: str = "skilled",
    flag: str = "",
    method: dict[str, Any] | None = None,
    **changes: Any,
) -> Recipe:
    tasks = [{"question": f"What is {i} + {i % 7}?{flag}", "answer": i + i % 7} for i in range(1000, 1090)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tasks))
    settings: dict[str, Any] = {
        "rounds": 2,
        "model": {"base": str(model)},
        "engine": {"kind": "scripted", "answers": f"tests.stages.methods.self.answers:{script}"},
        "tasks": {"source": "jsonl", "path": str(folder / "tasks.jsonl")},
        "held_out": {"count": 10},
        "questions_per_round": 40,
        "new_questions": True,
        "method": {"name": "self", "new_questions": NEW, **(method or {})},
        "evaluate": {"samples": 3, "k": [1, 3], "bootstrap": 100},
    }
    return tiny_recipe(**{**settings, **changes})


async def make(
    run: RunDir, recipe: Recipe, rounds: tuple[int, ...], *stages: str, publish: bool = False
) -> Loop:
    """Run stages of rounds; the scripted model needs no training to go on."""
    loop = Loop(run, run.freeze(recipe))
    freeze(run, recipe)
    for round_ in rounds:
        for name in stages or STAGES:
            await loop.stage(round_, name)
        if publish:
            await loop.publish(round_)
    return loop


def payloads(run: RunDir, round_: int, stage: str) -> list[dict[str, Any]]:
    return [row.payload for row in run.rows(run.stage(round_, stage))]


def asked(run: RunDir, round_: int, stage: str) -> list[dict[str, Any]]:
    return list(request_log.records(f"{run.stage(round_, stage)}/requests"))
