"""The kinds of published datasets, and all that publishing, mixing and training have to know of one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Features

from pipeline.publish.corpus import TEXT_FEATURES, TEXT_SCHEMA_VERSION, tokens_of_text
from pipeline.publish.preference import PAIR_FEATURES, PAIR_SCHEMA_VERSION
from pipeline.publish.schema import FEATURES, SCHEMA_VERSION
from pipeline.publish.turns import TURN_FEATURES, TURN_SCHEMA_VERSION, tokens_of_turns


@dataclass(slots=True, frozen=True)
class Kind:
    """One kind of dataset. `replies` are the parts of a row that loss falls on, `context` is what they follow; `tokens_<part>` counts each.

    As a rule these parts are columns of messages, counted by the chat template. A kind that is anything else has a function `tokens` from
    tokenizer and row to the counts, and to the columns of token ids, if it has such.
    """

    name: str  # the folder under datasets/
    version: int
    features: Features
    replies: tuple[str, ...]
    unit: str  # what one row is called
    form: str  # for the card
    context: str = "prompt"  # "": nothing
    tokens: Callable[[Any, Mapping[str, Any]], dict[str, Any]] | None = None
    ids: tuple[str, ...] = ()  # columns of token ids, which a trainer reads in place of the parts
    command: str = "sft"  # of TRL, that trains on it
    blocks: bool = False  # rows are one stream for the trainer, cut into blocks of train.max_length tokens
    real: str = "demonstrations"  # what rows that no model wrote are called
    counting: str = "Tokens are counted with the model's chat template. TRL cuts what is longer than its `max_length` (default 1024)."

    @property
    def counts(self) -> dict[str, str]:
        """Return the part that each column of token counts is about, what has no loss first."""
        return {part: f"tokens_{part}" for part in (self.context, *self.replies) if part}

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Return the columns that a trainer reads."""
        return self.ids or tuple(self.counts)

    @property
    def seen(self) -> str:
        """Return what the trainer's examples are called."""
        return "blocks" if self.blocks else self.unit


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
    ids=("input_ids", "labels"),
)
CPT = Kind(
    "cpt",
    TEXT_SCHEMA_VERSION,
    TEXT_FEATURES,
    ("text",),
    "texts",
    "plain texts for continued pretraining; loss belongs on every token",
    context="",
    tokens=tokens_of_text,
    blocks=True,
    real="texts",
    counting="BOS and EOS are counted. Training puts the texts one after the other and cuts the stream into blocks.",
)
KINDS = {kind.name: kind for kind in (SFT, DPO, TURNS, CPT)}
