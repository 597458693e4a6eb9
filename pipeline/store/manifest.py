"""A stage's manifest: the only thing that makes a stage done, and the proof that no row was lost in it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import StageError
from pipeline.store import files

FORMAT = 1


class PartEntry(BaseModel):
    """One part file; `path` is relative to the run directory."""

    path: str
    rows: int
    sha256: str


class StepEntry(BaseModel):
    """What one step over all rows of the stage did (deduplication, caps, votes)."""

    name: str
    rows_in: int
    rows_out: int
    dropped: dict[str, int] = Field(default_factory=dict)


class Tokens(BaseModel):
    """Tokens of all requests that the stage's rows needed."""

    prompt: int = 0
    completion: int = 0


class Requests(BaseModel):
    """Requests the rows needed: sent to an engine, or found finished in the log after an interruption."""

    sent: int = 0
    from_log: int = 0


class Manifest(BaseModel):
    """See ARCHITECTURE: written last, atomically. `rows_out` counts the rows that go on."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    stage: str
    round: int | str
    method: str
    fingerprint: str
    model: str = ""
    rows_in: int
    rows_done: int
    rows_dropped: dict[str, int] = Field(default_factory=dict)
    rows_failed: dict[str, int] = Field(default_factory=dict)
    rows_out: int
    steps: list[StepEntry] = Field(default_factory=list)
    parts: list[PartEntry] = Field(default_factory=list)
    tokens: Tokens = Field(default_factory=Tokens)
    requests: Requests = Field(default_factory=Requests)
    seconds: float = 0.0
    passes_through: str | None = Field(None, description="an empty stage: its rows are those of this stage")
    extra: dict[str, Any] = Field(default_factory=dict)

    def check(self) -> None:
        """Raise StageError when rows do not add up (ARCHITECTURE invariant 1)."""
        accounted = self.rows_done + sum(self.rows_dropped.values()) + sum(self.rows_failed.values())
        if accounted != self.rows_in:
            raise StageError(
                f"{self.stage} of round {self.round} lost rows: {self.rows_in} in, but {self.rows_done} done + "
                f"{sum(self.rows_dropped.values())} dropped + {sum(self.rows_failed.values())} failed = {accounted}. "
                "The stage is not marked as done. This is a fault of selfloop: please report it with the run directory."
            )
        for step in self.steps:
            if step.rows_in != step.rows_out + sum(step.dropped.values()):
                raise StageError(f"step {step.name} of {self.stage} lost rows: {step.model_dump()}")
        stored = sum(p.rows for p in self.parts)
        if stored != self.rows_out:
            raise StageError(
                f"{self.stage} of round {self.round}: its parts hold {stored} rows, but {self.rows_out} were counted."
            )

    def dropped_in_all(self) -> dict[str, int]:
        """Return dropped rows by reason, those of the steps included."""
        total = dict(self.rows_dropped)
        for step in self.steps:
            for reason, n in step.dropped.items():
                total[reason] = total.get(reason, 0) + n
        return total

    def write(self, folder: str) -> None:
        """Check conservation, then write manifest.json."""
        self.check()
        files.write_json(files.join(folder, "manifest.json"), self.model_dump(mode="json"))


def read_manifest(folder: str) -> Manifest | None:
    """Return the manifest in a stage's folder, or None when the stage is not done."""
    path = files.join(folder, "manifest.json")
    try:
        return Manifest.model_validate(files.read_json(path))
    except FileNotFoundError:
        return None
    except ValueError as e:
        raise StageError(
            f"{path}: not a manifest this version can read ({e}). Remove the stage's folder to make it again."
        ) from None
