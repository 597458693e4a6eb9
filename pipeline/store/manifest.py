"""A stage's manifest: written last, it alone marks the stage done, and it proves that no row was lost."""

from collections import Counter
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import StageError
from pipeline.store import files
from pipeline.store.parts import Counts

FORMAT = 1


class PartEntry(BaseModel):
    """One part file; `path` is relative to the run directory."""

    path: str
    rows: int
    sha256: str


class StepEntry(BaseModel):
    """One step over all rows of the stage, such as deduplication: how many went in and what it dropped.

    `rows_replaced` of `rows_out` were answered with other rows in their place.
    """

    name: str
    rows_in: int
    rows_out: int
    rows_replaced: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)


class Tokens(BaseModel):
    """Tokens of all requests that the stage's rows needed."""

    prompt: int = 0
    completion: int = 0


class Requests(BaseModel):
    """Requests that the stage's rows needed: sent to an engine, or found in the log of an earlier attempt."""

    sent: int = 0
    from_log: int = 0


class Manifest(BaseModel):
    """Counts and parts of a done stage. `rows_out` counts the rows that go on to the next stage."""

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
    passes_through: str | None = Field(None, description="an empty stage: its parts are those of this stage")
    extra: dict[str, Any] = Field(default_factory=dict)

    def add_up(self, counts: Counts) -> None:
        """Fill in what became of the input rows, and what that cost."""
        self.rows_done, self.rows_dropped, self.rows_failed = counts.done, counts.dropped, counts.failed
        self.tokens = Tokens(prompt=counts.prompt_tokens, completion=counts.completion_tokens)
        self.requests = Requests(sent=counts.sent, from_log=counts.from_log)

    def check(self) -> None:
        """Raise StageError unless rows in = done + dropped + failed, here and in every step."""
        where, dropped = f"{self.stage} of round {self.round}", sum(self.rows_dropped.values())
        failed = sum(self.rows_failed.values())
        accounted = self.rows_done + dropped + failed
        if accounted != self.rows_in:
            raise StageError(
                f"{where} lost rows: {self.rows_in} in, but {self.rows_done} done + {dropped} dropped + "
                f"{failed} failed = {accounted}. The stage is not marked done. This is a bug in selfloop: "
                "please report it and keep the run directory."
            )
        for step in self.steps:
            if step.rows_in != step.rows_out + sum(step.dropped.values()):
                raise StageError(f"step {step.name} of {self.stage} lost rows: {step.model_dump()}")
        stored = sum(p.rows for p in self.parts)
        if stored != self.rows_out:
            raise StageError(f"{where}: its parts hold {stored} rows, but {self.rows_out} were counted.")

    def dropped_in_all(self) -> dict[str, int]:
        """Return dropped rows by reason, including those that steps dropped."""
        total = Counter(self.rows_dropped)
        for step in self.steps:
            total.update(step.dropped)
        return dict(total)

    def write(self, folder: str) -> None:
        """Write manifest.json, if `check` passes."""
        self.check()
        files.write_json(files.join(folder, "manifest.json"), self.model_dump(mode="json"))


def read_manifest(folder: str) -> Manifest | None:
    """Return the manifest of a stage's folder, or None when the stage is not done."""
    path = files.join(folder, "manifest.json")
    try:
        return Manifest.model_validate(files.read_json(path))
    except FileNotFoundError:
        return None
    except ValueError as e:
        raise StageError(
            f"{path}: not a manifest that this version can read ({e}). Delete this file: the same command "
            "writes it again from the parts beside it."
        ) from None
