"""What methods share about answers: the fields of a sampled one, and the text of a demonstrated one."""

from typing import Any

from pipeline.engines.base import Completion
from stages.answers import extract, mark


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
    if solution and (answer is None or extract(solution, payload["answer_type"], payload.get("options")).answer is not None):
        return solution
    return f"{solution}\n{mark(answer)}".strip()
