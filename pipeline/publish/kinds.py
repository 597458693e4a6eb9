"""The kinds of published datasets, and all that publishing, mixing and training have to know of one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Features

from pipeline.publish.preference import PAIR_FEATURES, PAIR_SCHEMA_VERSION
from pipeline.publish.schema import FEATURES, MESSAGES, SCHEMA_VERSION
from pipeline.publish.turns import TURN_FEATURES, TURN_SCHEMA_VERSION, tokens_of_turns


@dataclass(slots=True, frozen=True)
class Kind:
    """One kind of dataset. `replies` are its columns of messages that follow the prompt; `tokens_<column>` counts each.

    A kind that is written as token ids has a function `tokens` from tokenizer and row to these columns and their counts.
    """

    name: str  # the folder under datasets/
    version: int
    features: Features
    replies: tuple[str, ...]
    unit: str  # what one row is called
    form: str  # for the card
    command: str = "sft"  # of TRL, that trains on it
    context: str = "prompt"  # what the replies follow, and no loss falls on
    tokens: Callable[[Any, Mapping[str, Any]], dict[str, Any]] | None = None

    @property
    def counts(self) -> dict[str, str]:
        """Return the part that each column of token counts is about, what has no loss first."""
        return {part: f"tokens_{part}" for part in (self.context, *self.replies)}

    @property
    def messages(self) -> tuple[str, ...]:
        """Return the columns of messages."""
        return tuple(name for name, feature in self.features.items() if feature == MESSAGES)

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Return the columns that a trainer reads."""
        return ("input_ids", "labels") if self.tokens else self.messages


SFT = Kind(
    "sft",
    SCHEMA_VERSION,
    FEATURES,
    ("completion",),
    "examples",
    "supervised examples in conversational prompt-completion form; loss belongs on the completion only",
)
DPO = Kind(
    "dpo",
    PAIR_SCHEMA_VERSION,
    PAIR_FEATURES,
    ("chosen", "rejected"),
    "pairs",
    "preference pairs in conversational form with an explicit prompt; both answers of a pair are to the same question",
    command="dpo",
)
TURNS = Kind(
    "turns",
    TURN_SCHEMA_VERSION,
    TURN_FEATURES,
    ("loss",),
    "episodes",
    "conversations of many turns, as token ids with labels: loss falls on the turns whose `loss` is true and on nothing else",
    context="context",
    tokens=tokens_of_turns,
)
KINDS = {kind.name: kind for kind in (SFT, DPO, TURNS)}
