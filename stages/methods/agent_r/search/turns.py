"""A turn of the player: parsing one action out of what a model wrote."""

import re

from pipeline.engines.base import Message
from stages.steps.filters import CUT_SHORT

_LABELED = r"Action[ \t]*\d*[ \t]*:[ \t]*([^\n]*)"
_ACTION = re.compile(r"\b" + _LABELED, re.IGNORECASE)
_ACTION_LINE = re.compile(r"^[ \t]*" + _LABELED, re.IGNORECASE | re.MULTILINE)
_NEXT_TURN = re.compile(r"\n[ \t]*(?:Observation|Thought)\b", re.IGNORECASE)
_MADE_UP = re.compile(r"(?:^|\n)[ \t]*Observation\b", re.IGNORECASE)  # nothing after it is the player's
_LABEL = re.compile(r"\b(Action[ \t]*\d*)[ \t]*:", re.IGNORECASE)


def parse_turn(text: str) -> tuple[str, str]:
    """Return (turn, action); the action is "" if there is none.

    The turn ends at its FIRST action: what a model writes after it is made-up observations and further
    actions, which must be neither played nor trained on. An action on its own line wins over one mentioned in
    a thought ("my next action: ..."), and nothing after an observation counts.
    """
    text = text.strip()
    next_turn, made_up = _NEXT_TURN.search(text), _MADE_UP.search(text)
    end = made_up.start() if made_up else len(text)
    line_end = next_turn.start() if next_turn else len(text)
    match = _ACTION_LINE.search(text, 0, line_end) or _ACTION.search(text, 0, end)
    return (text[: match.end()].strip(), match[1].strip()) if match else (text[:end].strip(), "")


def exchange(turn: str, observation: str) -> list[Message]:
    """Return a turn and its observation as chat messages."""
    return [{"role": "assistant", "content": turn}, {"role": "user", "content": observation}]


def cut_off(text: str, finish_reason: str) -> bool:
    """Tell whether a turn is truncated: its action, or the thought before it, ends where the engine stopped.

    Its action may not be the one that was meant ("get 1" of "get 12"), and training on it teaches to stop
    midway.
    """
    return finish_reason in CUT_SHORT and parse_turn(text)[0] == text.strip()


def unlabel_actions(text: str) -> str:
    """Return the text with no "Action:" left in it to parse, so that it can precede a turn's own action."""
    return _LABEL.sub(r"\1", text)


def normalize_action(action: str) -> str:
    """Return the action without case, extra spaces and final period: siblings differ by this."""
    return " ".join(action.casefold().split()).rstrip(".").rstrip()
