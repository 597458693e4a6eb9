"""Options of the method `self_lengthen`."""

from typing import Literal

from pydantic import Field

from pipeline.methods import Options


class SelfLengthenOptions(Options):
    """Options of `self_lengthen`; the defaults are those of the released code, for texts of thousands of
    words.
    """

    late = ("arm",)
    name: Literal["self_lengthen"] = "self_lengthen"
    arm: Literal["extensions", "drafts"] = "extensions"
    """What is trained on: the extended texts, or, as a control, the drafts that they were made from."""
    instructions: int = Field(4, ge=1)
    """New instructions written per seed and round."""
    instruction_tries: int = Field(10, ge=1)
    """Attempts at each of them."""
    instruction_tokens: int = Field(256, ge=8)
    """Tokens of an instruction, at most."""
    article_words: int = Field(2000, ge=1)
    """The judge is asked whether an instruction suits an article of more words than this."""
    similarity: float = Field(0.7, gt=0, le=1)
    """Instructions whose three-word shingles overlap this much (Jaccard) count as duplicates."""
    drafts: int = Field(2, ge=1)
    """Drafts of each instruction."""
    draft_tries: int = Field(20, ge=1)
    """Attempts at each draft, until one passes the rules."""
    extensions: int = Field(2, ge=1)
    """Extensions of each draft."""
    attempts: int = Field(20, ge=1)
    """Attempts at each extension."""
    micro_iterations: int = Field(3, ge=1)
    """Extensions of the extension, in each attempt."""
    growth: float = Field(1.2, ge=1)
    """An extension has more than this many times the draft's words."""
    length_bias: list[Literal["drafts", "extensions"]] = Field(["drafts", "extensions"])
    """Where short texts are dropped with a higher probability than long ones."""
    noise: float = Field(0.2, ge=0, lt=1)
    """Share of a draft's lines left out of the extender's prompt."""
    demand_share: float = Field(0.5, ge=0, le=1)
    """Share of the generator's instructions that ask for the length of their text."""
    demand_unit: int = Field(1000, ge=1)
    """Words that such lengths are rounded to, where the text still has the length then."""
    demand_tries: int = Field(3, ge=0)
    """The model's attempts to put the length into an instruction; after them (0: at once) a sentence is
    appended.
    """
