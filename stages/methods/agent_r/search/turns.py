"""A turn of the player: from what a model wrote to one action, and a turn as it stands in the conversation."""

import re

from stages.steps.filters import CUT_SHORT

_SAID = r"Action[ \t]*\d*[ \t]*:[ \t]*([^\n]*)"
_ACTION = re.compile(r"\b" + _SAID, re.IGNORECASE)
_ACTION_LINE = re.compile(r"^[ \t]*" + _SAID, re.IGNORECASE | re.MULTILINE)
_NEXT = re.compile(
    r"\n[ \t]*(?:Observation|Thought)\b", re.IGNORECASE
)  # here ends the turn, whatever was an action in it
_MADE_UP = re.compile(r"(?:^|\n)[ \t]*Observation\b", re.IGNORECASE)  # nothing after it is the player's
_LABEL = re.compile(r"\b(Action[ \t]*\d*)[ \t]*:", re.IGNORECASE)


def parse_turn(text: str) -> tuple[str, str]:
    """Return (the turn, its action); the action is "" when the text has none.

    The turn ends with its FIRST action. What a model goes on to write is an observation it made up and further actions: were it left
    in, the last of them would be done, and all of them learnt. Agent-R 1.8, F19. An action on a line of its own comes before one that a
    thought speaks of ("my next action: ..."), and what comes after an observation is no action of this turn.
    """
    text = text.strip()
    next_turn = _NEXT.search(text)
    made_up = _MADE_UP.search(text)
    end = made_up.start() if made_up else len(text)
    found = _ACTION_LINE.search(text, 0, next_turn.start() if next_turn else len(text)) or _ACTION.search(
        text, 0, end
    )
    return (text[:end].strip(), "") if found is None else (text[: found.end()].strip(), found[1].strip())


def cut_off(text: str, finish_reason: str) -> bool:
    """Tell whether a turn was broken off: its action, or the thought before it, goes on to where the engine stopped writing.

    What would be done is then not what was meant ("get 1" of "get 12"), and learnt it would teach to stop midway.
    """
    return finish_reason in CUT_SHORT and parse_turn(text)[0] == text.strip()


def quoted(text: str) -> str:
    """Return a text in which nothing is read as an action, so that it can stand before the action of a turn."""
    return _LABEL.sub(r"\1", text)


def normalised(action: str) -> str:
    """Return an action without case, spacing and a closing full stop: what tells siblings apart (F13)."""
    return " ".join(action.casefold().split()).rstrip(".").rstrip()
