"""Runs stages on the session's Ray with the scripted engine."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.config import ScriptedEngine
from pipeline.engines.pool import EngineHandle
from pipeline.ids import digest
from pipeline.methods import Stage
from pipeline.models import ModelRef
from pipeline.round import Input, Round
from pipeline.rows import Row
from pipeline.rundir import RunDir
from pipeline.runner.stage import run_stage
from pipeline.store import parts, request_log
from pipeline.store.manifest import Manifest
from tests.conftest import tiny_recipe


@dataclass
class Stages:
    """Runs one stage of one run; what is not said is as it was the time before."""

    run: RunDir
    rows: int = 40
    runner: dict[str, Any] = field(default_factory=lambda: {"in_flight": 8, "part_rows": 5})
    engine: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return self.run.stage(1, "generate")

    @property
    def source(self) -> Input:
        rows = [Row(f"r{i:03d}", {"n": i}) for i in range(self.rows)]
        return Input(lambda: iter(rows), len(rows), digest([r.id for r in rows]))

    async def __call__(
        self, factory: Callable[..., Stage], source: Input | None = None, **runner: Any
    ) -> Manifest:
        recipe = tiny_recipe(runner={**self.runner, **runner})
        config = ScriptedEngine(kind="scripted", **self.engine)
        handle = EngineHandle(config, ModelRef("", "m", "1"))
        return await run_stage(Round(self.run, 1, recipe), "generate", factory, source or self.source, handle)

    def ids(self) -> list[str]:
        """The ids of the rows that are passed on."""
        return sorted(row.id for row in self.run.rows(self.folder))

    def inputs(self) -> Counter[str]:
        """How often each input row is accounted for in parts."""
        return Counter(i for part in parts.committed(self.folder) for i in part.inputs)

    def rejects(self, kind: str) -> dict[str, str]:
        """The dropped or failed rows, each with its reason; a row that is there twice is an error."""
        found = list(self.run.rejects(self.folder, kind))
        assert len({r["id"] for r in found}) == len(found)
        return {r["id"]: r["reason"] for r in found}

    def log(self) -> Counter[str]:
        """How often each request was sent and finished."""
        return Counter(r["key"] for r in request_log.records(f"{self.folder}/requests"))


@pytest.fixture
def stages(run: RunDir, local_ray: Any) -> Stages:
    """A run with Ray."""
    return Stages(run)


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory, local_ray: Any) -> Iterator[Stages]:
    """Another run, to compare with."""
    yield Stages(RunDir(tmp_path_factory.mktemp("other") / "run"))
