"""A turn of the player in the conversation, and how two of them compare."""

from pipeline.engines.base import Completion, Message
from stages.environments import Move
from stages.methods.agent_r.search.game import Game
from stages.steps.filters import CUT_SHORT


def exchange(turn: str, observation: str) -> list[Message]:
    """Return a turn and its observation as chat messages."""
    return [{"role": "assistant", "content": turn}, {"role": "user", "content": observation}]


def whole_turn(game: Game, reply: Completion) -> Move | None:
    """Return a reply's turn and action, or None if it is truncated: if its action, or the thought before it,
    ends where the engine stopped.

    Such an action may not be the one that was meant ("get 1" of "get 12"), and training on it teaches to stop
    midway.
    """
    move = game.parse(reply.text)
    ends = move.turn == game.said(reply.text)
    return None if ends and reply.finish_reason in CUT_SHORT else move


def normalize_action(action: str) -> str:
    """Return what two siblings must not have in common: the action without case, extra spaces and final
    period; of several lines (code) only without white space at their ends.
    """
    action = action.strip()
    if "\n" in action:
        return "\n".join(line.rstrip() for line in action.splitlines())
    return " ".join(action.casefold().split()).rstrip(".").rstrip()
