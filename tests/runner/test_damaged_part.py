"""A torn part, mended as the error advises: no request is sent again."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DamagedError
from pipeline.rundir import RunDir
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]


def test_the_advice_for_a_torn_part_pays_nothing_twice(local_ray: Any, run: RunDir, tiny_model: Path) -> None:
    tasks = Path(run.root).parent / "tasks.jsonl"
    rows = [{"question": f"What is {i} + 1?", "answer": i + 1} for i in range(8)]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"source": "jsonl", "path": str(tasks)}
    recipe = tiny_recipe(tasks=source, held_out={"count": 2}, model={"base": str(tiny_model)})
    freeze(run, run.freeze(recipe))
    loop, folder = Loop(run, recipe), Path(run.stage(1, "generate"))
    before = asyncio.run(loop.stage(1, "generate"))
    ids = sorted(row.id for row in run.rows(str(folder)))
    [part] = folder.glob("part-*.arrow")
    part.write_bytes(part.read_bytes()[:-200])
    with pytest.raises(DamagedError) as e:
        list(run.rows(str(folder)))
    named = re.search(
        r"delete the files named (\S+) and manifest.json in (\S+) and its folders", str(e.value)
    )
    assert named and named[2] == str(folder)
    for path in (*folder.rglob(named[1]), folder / "manifest.json"):
        path.unlink()
    after = asyncio.run(loop.stage(1, "generate"))
    assert after.requests.sent == 0 and after.requests.from_log == before.requests.sent == 6
    assert sorted(row.id for row in run.rows(str(folder))) == ids
