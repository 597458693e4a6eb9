"""What a judge is asked to reply, and reading it: a reply that is not exactly that is unreadable."""

import json
import re
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.engines.base import Completion
from stages.steps.filters import CUT_SHORT

REASON_CHARACTERS = 400  # of a guided reply: a small model would not end its reason by itself
_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)


class Score(BaseModel):
    """A judgement of one answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str
    score: int


class Preference(BaseModel):
    """A judgement of two answers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str
    better: Literal["A", "B", "tie"]


Form = TypeVar("Form", bound=BaseModel)


class Unreadable(NamedTuple):
    """Why a reply is no judgement."""

    problem: str


def score_schema(lowest: int, highest: int) -> dict[str, Any]:
    """Return the JSON schema of a Score. The reason comes first, so that the score follows from it."""
    return _schema("score", {"type": "integer", "enum": list(range(lowest, highest + 1))})


def preference_schema() -> dict[str, Any]:
    """Return the JSON schema of a Preference."""
    return _schema("better", {"type": "string", "enum": ["A", "B", "tie"]})


def read_score(reply: Completion, lowest: int, highest: int) -> Score | Unreadable:
    """Return the judgement in a reply, with a score from `lowest` to `highest`."""
    found = _read(reply, Score)
    if isinstance(found, Score) and not lowest <= found.score <= highest:
        return Unreadable(f"score {found.score} is not between {lowest} and {highest}")
    return found


def read_preference(reply: Completion) -> Preference | Unreadable:
    """Return the judgement in a reply."""
    return _read(reply, Preference)


def _schema(name: str, decision: dict[str, Any]) -> dict[str, Any]:
    reason = {"type": "string", "minLength": 1, "maxLength": REASON_CHARACTERS}
    return {
        "type": "object",
        "properties": {"reason": reason, name: decision},
        "required": ["reason", name],
        "additionalProperties": False,
    }


def _read(reply: Completion, form: type[Form]) -> Form | Unreadable:
    """Parse a reply that is one JSON object and nothing else, but for a code fence around it."""
    if reply.finish_reason in CUT_SHORT:
        return Unreadable(f"the reply was cut off ({reply.finish_reason})")
    text = reply.text.strip()
    fenced = _FENCED.fullmatch(text)
    try:
        return form.model_validate(_object(fenced[1] if fenced else text))
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        return Unreadable(f"{'.'.join(map(str, first['loc'])) or 'the reply'}: {first['msg']}")
    except (ValueError, RecursionError) as e:
        return Unreadable(f"no JSON object: {e}")


def _object(text: str) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError for a key that comes twice: which one counts?"""

    def unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError("a key comes twice")
        return found

    found = json.loads(text, object_pairs_hook=unambiguous)
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, got {type(found).__name__}")
    return found
