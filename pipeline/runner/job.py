"""One stage of one round as it is being run, for the driver and its crew of workers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.engines.base import EngineStatus
from pipeline.engines.pool import EngineHandle
from pipeline.round import Round
from pipeline.runner.worker import StageFactory
from pipeline.stage import Stage
from pipeline.store import files


@dataclass(frozen=True)
class StageRun:
    """What is run: `factory` builds the stage in each worker, `stage` is the
    driver's.
    """

    round: Round
    name: str
    factory: StageFactory
    stage: Stage
    engine: EngineHandle | None = None
    seats: Mapping[str, EngineHandle] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The stage's folder."""
        return self.round.folder(self.name)

    @property
    def rows_folder(self) -> str:
        """Where the row function's parts go: dataset steps read them there and write the stage's own."""
        return files.join(self.folder, "rows") if self.stage.row and self.stage.steps else self.folder

    @property
    def pools(self) -> list[EngineHandle]:
        """The engines that the stage asks and that run as replicas, each once."""
        handles = [handle for handle in (self.engine, *self.seats.values()) if handle and handle.replicas]
        return list({id(handle.replicas[0]): handle for handle in handles}.values())

    async def queue(self) -> EngineStatus | None:
        """Return the load of all replicas that the stage asks, each once; None where that is unknown."""
        found = [status for handle in self.pools if (status := await handle.queue())]
        counts = [(s.running, s.waiting, s.looked_up, s.found) for s in found]
        return EngineStatus(*map(sum, zip(*counts, strict=True))) if counts else None
