"""What methods share about answers: payload fields of a sampled one, the text of a demonstration, sampling
per step.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.engines.base import Completion, Sampling
from stages.answers import extract, lines_of, mark


class StepSampling(BaseModel):
    """Sampling parameters of one step, where they differ from the recipe's `sampling`."""

    model_config = ConfigDict(extra="forbid")

    temperature: float | None = Field(None, ge=0)
    max_tokens: int | None = Field(None, ge=1)

    def applied_to(self, sampling: Sampling) -> Sampling:
        """Return `sampling` with this step's parameters in place of its own."""
        return sampling.override(**self.model_dump(exclude_none=True))


def answer_fields(completion: Completion) -> dict[str, Any]:
    """Return the payload fields of a sampled answer; `thought` is there if the answer has one to keep."""
    return {
        **({"thought": completion.thought} if completion.thought else {}),
        "text": completion.text.strip(),
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
    }


def demonstration(payload: dict[str, Any], boxed: bool = False) -> str:
    """Return a demonstration's text: its worked solution, if any, with the final answer marked at its end.

    `boxed` marks it in a box, for a prompt that asks for one.
    """
    solution, answer = (payload.get("solution") or "").strip(), payload.get("answer")
    if answer is None:
        return solution
    kind, options, words = payload["answer_type"], payload.get("options"), payload.get("answer_marks") or ()
    marked = solution and extract(solution, kind, options, words, lines_of(answer)).answer is not None
    return solution if marked else f"{solution}\n{mark(answer, words, boxed)}".strip()
