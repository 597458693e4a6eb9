"""Engines that hang are told from slow ones, on Ray, with processes that are really stopped."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.engines.pool import EnginePool
from pipeline.errors import StageError
from pipeline.models import ModelRef
from pipeline.round import Round
from pipeline.rundir import RunDir
from pipeline.runner.stage import run_stage
from pipeline.store import request_log
from pipeline.store.manifest import Manifest
from tests.conftest import tiny_recipe
from tests.runner.conftest import Stages
from tests.runner.stage_functions import factory

IN_FLIGHT, ROWS, SECONDS = 4, 20, 3


@asynccontextmanager
async def engines(run: RunDir, tmp_path: Path, **config: Any) -> AsyncIterator[EnginePool]:
    kind = "tests.hanging_engine:Hanging"
    engine = {"kind": kind, "folder": str(tmp_path), "heartbeat_seconds": SECONDS, **config}
    recipe = tiny_recipe(engine=engine, runner={"in_flight": IN_FLIGHT, "part_rows": 5})
    pool = EnginePool(recipe, recipe.engine)
    try:
        yield pool
    finally:
        await pool.free()


async def stage(run: RunDir, pool: EnginePool) -> Manifest:
    handle, source = await pool.use(ModelRef("/models/tiny", "tiny", "1")), Stages(run, ROWS).source
    return await run_stage(Round(run, 1, pool._recipe), "generate", factory("plain"), source, handle)


def noted(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text().split() if (folder / name).exists() else []


@pytest.mark.parametrize("how", ["core", "actor", "loop"])
async def test_one_that_hangs_is_started_again(
    how: str, run: RunDir, tmp_path: Path, local_ray: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async with engines(run, tmp_path, how=how) as pool:
        manifest = await stage(run, pool)
    assert (manifest.rows_in, manifest.rows_done) == (ROWS, ROWS)
    log = Counter(r["key"] for r in request_log.records(f"{run.stage(1, 'generate')}/requests"))
    assert len(log) == ROWS and set(log.values()) == {1}
    asked = Counter(noted(tmp_path, "asked"))
    assert noted(tmp_path, "hung") == [how] and ROWS < asked.total() <= ROWS + IN_FLIGHT
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("no sign of life for 3 s (engine.heartbeat_seconds): it is ended and started") == 1
    assert not [pid for pid in noted(tmp_path, "cores") if psutil.pid_exists(int(pid))]


async def test_the_second_time_the_stage_stops(run: RunDir, tmp_path: Path, local_ray: Any) -> None:
    """What had finished is kept, and is not sent again by the next attempt."""
    async with engines(run, tmp_path, how="core", times=2) as pool:
        with pytest.raises(StageError, match=r"no sign of life for 3 s .*the second time.*rerun the same"):
            await stage(run, pool)
        assert len(noted(tmp_path, "hung")) == 2
    async with engines(run, tmp_path, how="core", times=2) as pool:
        assert (await stage(run, pool)).rows_done == ROWS
    log = Counter(r["key"] for r in request_log.records(f"{run.stage(1, 'generate')}/requests"))
    assert len(log) == ROWS and set(log.values()) == {1}
    assert len(noted(tmp_path, "asked")) <= ROWS + 2 * IN_FLIGHT


@pytest.mark.parametrize("how", ["tokens", "questions"])
async def test_a_slow_one_is_left_alone(how: str, run: RunDir, tmp_path: Path, local_ray: Any) -> None:
    """For twice the time after which it would be ended."""
    async with engines(run, tmp_path, how=how) as pool:
        assert (await stage(run, pool)).rows_done == ROWS
    assert len(noted(tmp_path, "asked")) == ROWS and len(noted(tmp_path, "cores")) == 1
