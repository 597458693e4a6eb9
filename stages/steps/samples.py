"""What methods share about answers: the fields of a sampled one, the text of a demonstrated one, and the sampling of single steps."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.engines.base import Completion, Sampling
from stages.answers import extract, mark


class StepSampling(BaseModel):
    """What one step samples with where it differs from the recipe's `sampling`."""

    model_config = ConfigDict(extra="forbid")

    temperature: float | None = Field(None, ge=0)
    max_tokens: int | None = Field(None, ge=1)

    def over(self, sampling: Sampling) -> Sampling:
        """Return `sampling` with what the step says laid over it."""
        return sampling.updated(**self.model_dump(exclude_none=True))


def answer_fields(completion: Completion) -> dict[str, Any]:
    """Return the payload fields of a sampled answer."""
    return {
        "text": completion.text.strip(),
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
    }


def demonstration(payload: dict[str, Any]) -> str:
    """Return a demonstration's text: its worked solution, if any, with the final answer marked at its end."""
    solution, answer = (payload.get("solution") or "").strip(), payload.get("answer")
    if solution and (
        answer is None or extract(solution, payload["answer_type"], payload.get("options")).answer is not None
    ):
        return solution
    return f"{solution}\n{mark(answer)}".strip()
