"""A round of ReGenesis through the real runner: its recipe, and what the run's files say."""

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

Rows = list[dict[str, Any]]
SUMS = [{"question": f"What is {100 + i} + {i % 7 + 1}?", "answer": 101 + i + i % 7} for i in range(40)]


def write(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def recipe_in(
    folder: Path,
    model: Path,
    script: str,
    rows: Rows = SUMS,
    method: dict[str, Any] | None = None,
    **changes: Any,
) -> Recipe:
    settings: dict[str, Any] = {
        "rounds": 1,
        "model": {"base": str(model)},
        "engine": {"kind": "scripted", "answers": f"tests.stages.methods.regenesis.answers:{script}"},
        "tasks": {"source": "jsonl", "path": write(folder / "tasks.jsonl", rows)},
        "held_out": {"count": 1},
        "method": {"name": "regenesis", "raw_per_question": 1, **(method or {})},
    }
    return tiny_recipe(**{**settings, **changes})


async def make(run: RunDir, recipe: Recipe, *stages: str, publish: bool = False) -> Loop:
    """Run the stages of round 1, in this process's Ray."""
    loop = Loop(run, run.freeze(recipe))
    freeze(run, recipe)
    for name in stages or STAGES:
        await loop.stage(1, name)
    if publish:
        await loop.publish(1)
    return loop


def payloads(run: RunDir, stage: str) -> Rows:
    return [row.payload for row in run.rows(run.stage(1, stage))]


def dropped(run: RunDir, stage: str) -> list[tuple[str, dict[str, Any]]]:
    return [(r["reason"], json.loads(r["payload"])) for r in run.rejects(run.stage(1, stage), "dropped")]


def asked(run: RunDir) -> Rows:
    """The records of the request log of generate."""
    return list(request_log.records(f"{run.stage(1, 'generate')}/requests"))


def card(run: RunDir) -> str:
    return Path(run.dataset("sft", 1), "README.md").read_text()
