"""Lists of messages as questions and answers: {role, content} as chat APIs, {from, value} as ShareGPT."""

from collections.abc import Mapping
from typing import Any

from stages.tasks.columns import from_json
from stages.tasks.records import UnusableError

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}

Turns = list[dict[str, str]]


def messages(value: Any, what: str) -> Turns | None:
    """Return the turns (role, content) of a list of messages, None if `value` is none.

    It may be JSON text. Raises UnusableError for a role or a content that a chat of texts has not; errors
    call the value `what`.
    """
    if isinstance(value, str):
        value = from_json(value)
    if not isinstance(value, list | tuple) or not value or not all(map(_is_message, value)):
        return None
    return [_turn(message, f"message {i} of {what}") for i, message in enumerate(value, 1)]


def question_of(turns: Turns, what: str) -> tuple[str, Turns]:
    """Return the last user message, and the turns before it. Raises UnusableError if there is none."""
    last = next((i for i in reversed(range(len(turns))) if turns[i]["role"] == "user"), None)
    if last is None:
        raise UnusableError(f"{what} is a list of messages, none of which is the user's")
    return turns[last]["content"], turns[:last]


def reply_of(turns: Turns) -> str | None:
    """Return the last message if it is the assistant's."""
    return turns[-1]["content"] if turns[-1]["role"] == "assistant" else None


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and (
        {"role", "content"} <= set(value) or {"from", "value"} <= set(value)
    )


def _turn(message: Mapping[str, Any], what: str) -> dict[str, str]:
    keys = ("role", "content") if "role" in message else ("from", "value")
    role, content = (message[key] for key in keys)
    known = ROLES.get(role.strip().casefold()) if isinstance(role, str) else None
    if known is None:
        raise UnusableError(f"{what} has the {keys[0]} {role!r:.80}; expected one of {', '.join(ROLES)}")
    if isinstance(content, list | tuple):  # parts, as in chat APIs
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        content = "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
    if not isinstance(content, str):
        raise UnusableError(f"{what} has a {keys[1]} that is not text (an image or a call of a tool?)")
    return {"role": known, "content": content}
