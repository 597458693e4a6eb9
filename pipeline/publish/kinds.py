"""The kinds of published datasets, and all that publishing, mixing and training have to know of one."""

from dataclasses import dataclass

from datasets import Features

from pipeline.publish.corpus import TEXT_FEATURES, TEXT_SCHEMA_VERSION
from pipeline.publish.preference import PAIR_FEATURES, PAIR_SCHEMA_VERSION
from pipeline.publish.schema import FEATURES, SCHEMA_VERSION


@dataclass(slots=True, frozen=True)
class Kind:
    """One kind of dataset. `replies` are its columns of messages that follow the prompt; `tokens_<column>` counts each."""

    name: str  # the folder under datasets/, and the command of TRL that trains on it
    version: int
    features: Features
    replies: tuple[str, ...]
    unit: str  # what one row is called
    form: str  # for the card
    text: str = ""  # the column of plain text, in a kind that has one in place of prompt and replies

    @property
    def counts(self) -> dict[str, str]:
        """Return the part that each column of token counts is about, prompt first."""
        return {part: f"tokens_{part}" for part in ([self.text] if self.text else ("prompt", *self.replies))}

    @property
    def seen(self) -> str:
        """Return what the trainer's examples are called: texts are cut into blocks."""
        return "blocks" if self.text else self.unit


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
)
CPT = Kind(
    "cpt",
    TEXT_SCHEMA_VERSION,
    TEXT_FEATURES,
    (),
    "texts",
    "plain texts for continued pretraining; loss belongs on every token",
    text="text",
)
