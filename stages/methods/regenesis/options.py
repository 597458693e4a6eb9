"""Options of the method `regenesis`."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.errors import DataError
from pipeline.methods import Options
from stages.methods.regenesis.guidelines import DEFAULT, Guideline, read_guidelines
from stages.steps.samples import StepSampling


class Steps(BaseModel):
    """Sampling of the steps of a chain, where it differs from the recipe's."""

    model_config = ConfigDict(extra="forbid")

    select: StepSampling = Field(default_factory=StepSampling)
    adapt: StepSampling = Field(default_factory=StepSampling)
    structure: StepSampling = Field(default_factory=StepSampling)
    execute: StepSampling = Field(default_factory=StepSampling)


def _all_steps(temperature: float, max_tokens: int) -> dict[str, dict[str, Any]]:
    return {step: {"temperature": temperature, "max_tokens": max_tokens} for step in Steps.model_fields}


class ReGenesisOptions(Options):
    """Options of `regenesis`."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"n_selected": 0, "use_raw": True, "sampling": _all_steps(0.85, 2048)},
        "released-code": {"n_selected": 20, "use_raw": True, "sampling": _all_steps(1.2, 2048)},
    }
    late = ("skip_solved",)
    name: Literal["regenesis"] = "regenesis"
    preset: Literal["paper", "released-code"] | None = None
    """paper: the raw guidelines at temperature 0.85; released-code: 20 selections as well, at 1.2. Either
    allows every step 2048 tokens. `sampling` goes before the preset, the preset before the recipe's sampling.
    Both train with a learning rate of 1e-6, which is not the method's to set: see `train`."""
    guidelines: dict[int, Guideline] = Field(DEFAULT, validate_default=True)
    """A file of guidelines, frozen with the run."""
    n_selected: int = Field(0, ge=0)
    """Selections of two or three guidelines that the model makes; each starts a chain."""
    use_raw: bool = True
    """Each guideline by itself starts a chain."""
    raw_per_question: int | None = Field(None, ge=1)
    """Raw guidelines drawn per question (seeded); default: all."""
    sampling: Steps = Field(default_factory=Steps)
    """Sampling per step."""
    keep_per_question: int = Field(5, ge=1)
    """Accepted paths kept per question and round (seeded choice)."""
    mark_answers: bool | None = None
    """Append the line "Answer: ..." to a path whose answer is only boxed. null: where the question's prompt
    asks for such a line."""
    hinted_chains: int = Field(0, ge=0)
    """Chains that are shown the answer, for questions without an accepted path."""
    skip_solved: bool = False
    """Publish nothing of questions whose unhinted paths are all right."""

    @field_validator("guidelines", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        try:
            return read_guidelines(value) if isinstance(value, str) else value
        except DataError as e:
            raise ValueError(str(e)) from None

    @model_validator(mode="after")
    def _consistent(self) -> "ReGenesisOptions":
        if not self.guidelines:
            raise ValueError("guidelines is empty")
        if not self.use_raw and not self.n_selected:
            raise ValueError("use_raw is false and n_selected is 0: no chain can start")
        raw = len(self.guidelines) if self.use_raw else 0
        if self.raw_per_question and self.raw_per_question > raw:
            raise ValueError(
                f"raw_per_question is {self.raw_per_question}, but there are {raw} raw guidelines"
            )
        return self
