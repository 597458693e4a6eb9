"""Commands start without what takes seconds to import or to start, unless they need it."""

import json
import subprocess
import sys
from pathlib import Path

from pipeline.places import PROJECT
from pipeline.rundir import RunDir
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.in_process import stages_in_process

SLOW = {"ray", "datasets", "pandas", "torch", "transformers", "trl", "vllm", "huggingface_hub"}
LOADED = f"; import sys; print('loaded:', *sorted({SLOW} & sys.modules.keys()))"


def slow_modules(code: str) -> tuple[list[str], str]:
    """Run `code` in a process of its own; return what it imported of SLOW, and all that it printed."""
    command = [sys.executable, "-c", code + LOADED]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:], done.stdout + done.stderr


def test_commands_import_what_they_need_when_they_need_it() -> None:
    assert slow_modules("import jobs.iterate, jobs.generate, jobs.inspect, jobs.runs, jobs.recipes")[0] == []


async def test_a_stage_that_passes_rows_through_needs_no_ray(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("\n".join(json.dumps({"question": f"{i} + 1?", "answer": i + 1}) for i in range(4)))
    run = RunDir(tmp_path / "run")
    recipe = run.freeze(
        tiny_recipe(
            engine={"kind": "tests.own_engine:Echo", "says": "hm"},
            tasks={"source": "jsonl", "path": str(tasks)},
            held_out={"count": 1},
        )
    )
    freeze(run, recipe)
    with stages_in_process():
        await Loop(run, recipe).stage(1, "generate")
    critique = f"from jobs.critique import critique; critique(run={run.root!r}, round=1)"
    imported, said = slow_modules(critique)
    assert "rows pass through" in said and imported == []
