"""Which rows are left after an interruption, or after a worker's death; without Ray."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError

from pipeline.rundir import RunDir
from pipeline.runner.worker import StageWorkerActor
from pipeline.store import files
from pipeline.store.parts import PartWriter
from tests.in_process import stages_in_process
from tests.runner.conftest import Stages
from tests.runner.stage_functions import factory

ROWS = [f"r{i:03d}" for i in range(40)]


@pytest.fixture
def here(run: RunDir) -> Iterator[Stages]:
    with stages_in_process():
        yield Stages(run)


async def test_only_what_no_part_accounts_for_is_processed_again(here: Stages) -> None:
    first = await here(factory("mixed"))
    files.remove(f"{here.folder}/manifest.json")
    lost = here.run.path(first.parts[0].path)
    for path in (lost, *(lost.replace("/part-", f"/{kind}/part-") for kind in ("dropped", "failed"))):
        files.remove(path)
    again = await here(factory("mixed"))
    assert here.inputs() == dict.fromkeys(ROWS, 1) and again.rows_in == first.rows_in
    assert (again.rows_done, again.rows_dropped) == (first.rows_done, first.rows_dropped)
    assert sum(here.log().values()) < 2 * 80, "what was answered is not asked again"


async def test_a_worker_that_dies_leaves_the_rows_it_has_not_written(
    here: Stages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    submit, given = StageWorkerActor.submit, []
    nowhere = PartWriter(str(tmp_path / "nowhere"), str(tmp_path / "nowhere"), "00000")

    async def dying(self: Any, chunk: int, rows: Any) -> None:
        given.append(len(rows))
        await submit(self, chunk, rows)
        if len(given) == 5:
            await self._worker._flush()  # some of its rows are in a part
            self._worker._parts = nowhere
            raise RayActorError

    monkeypatch.setattr(StageWorkerActor, "submit", dying)
    manifest = await here(factory("mixed"))
    assert here.inputs() == dict.fromkeys(ROWS, 1) and manifest.rows_in == len(ROWS)
    assert len({path.name.split("-")[1] for path in Path(here.folder).glob("part-*")}) > 1
