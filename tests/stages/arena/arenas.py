"""Small arenas with the scripted engine, as files, and running them in this process.

python -m tests.stages.arena.arenas ARENA.yaml [OVERRIDE ...]     # in a process that can be killed
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import Arena, arena_overrides, dump_recipe, load_section
from pipeline.rundir import RunDir
from pipeline.sharing import taken_over
from pipeline.store import request_log
from stages.arena.lineup import Lineup
from stages.arena.running import Outcome, run
from tests.conftest import tiny_recipe
from tests.in_process import stages_in_process


def arena_in(
    folder: Path, model: Path, arms: dict[str, Any], recipe: dict[str, Any] | None = None, **settings: Any
) -> Path:
    """Write a recipe with its tasks, and an arena of it; return the arena's path."""
    tasks = [{"question": f"What is {i} + {i % 7}?", "answer": i + i % 7} for i in range(60)]
    worked = [{"question": f"What is {i} - 1?", "answer": i - 1} for i in range(200, 206)]
    for name, rows in (("tasks", tasks), ("worked", worked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    given: dict[str, Any] = {
        "rounds": 1,
        "model": {"base": str(model)},
        "engine": {"kind": "scripted", "answers": "tests.scripted_answers:sums"},
        "tasks": {"source": "jsonl", "path": str(folder / "tasks.jsonl")},
        "demonstrations": {"source": "jsonl", "path": str(folder / "worked.jsonl")},
        "held_out": {"count": 20},
        "questions_per_round": 12,
        "train": {"max_steps": 2, "batch_size": 2, "learning_rate": 0.01},
        "evaluate": {"bootstrap": 100},
    }
    (folder / "recipe.yaml").write_text(dump_recipe(tiny_recipe(**{**given, **(recipe or {})})))
    path = folder / "arena.yaml"
    path.write_text(
        yaml.safe_dump(
            {"name": "test", "recipe": str(folder / "recipe.yaml"), "arms": arms, **settings}, sort_keys=False
        )
    )
    return path


def lineup(path: Path, *overrides: str) -> Lineup:
    arena, place = load_section(path, Arena, arena_overrides(overrides))
    return Lineup(arena, place, str(path.parent / "arena"), str)


def make(path: Path, *overrides: str, seeds: Sequence[int] = ()) -> tuple[Outcome, dict[str, Any]]:
    """Run the arena, or go on with it; return how it ended and its results."""
    return asyncio.run(run(lineup(path, *overrides), seeds))


def asked(runs: list[RunDir]) -> list[tuple[str, str]]:
    """Return (stage, key) of every request that the runs have sent, without the logs that they took over."""
    found = []
    for one in runs:
        for folder in Path(one.root).glob("rounds/*/*/requests"):
            if not taken_over(str(folder.parent)):
                stage = "/".join(folder.parent.parts[-2:])
                found += [(stage, record["key"]) for record in request_log.records(str(folder))]
    return found


def trained(runs: list[RunDir]) -> list[str]:
    """Return run, round and name of every training that was not taken over."""
    paths = [p for one in runs for p in Path(one.root).glob("rounds/*/train/train.json")]
    return sorted("/".join(p.parts[-6:-2]) for p in paths if not taken_over(str(p.parent)))


if __name__ == "__main__":
    with stages_in_process():
        make(Path(sys.argv[1]), *sys.argv[2:])
