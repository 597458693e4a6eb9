"""Options of the method `entigraph`."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.methods import Options
from stages.steps.other_model import OtherModel
from stages.steps.samples import StepSampling

# As published, nothing is filtered, and the totals imply about 2,000 triples per document.
PAPER: dict[str, Any] = {
    "grounded": False,
    "max_entities": None,
    "max_triples": 2000,
    "check_sections": False,
    "check_names": False,
    "copy_chars": None,
    "near_duplicate": None,
}


class Steps(BaseModel):
    """Sampling of each kind of request, where it differs from the recipe's."""

    model_config = ConfigDict(extra="forbid")

    entities: StepSampling = Field(default_factory=StepSampling)
    relation: StepSampling = Field(default_factory=StepSampling)
    rephrase: StepSampling = Field(default_factory=StepSampling)
    judge: StepSampling = Field(default_factory=StepSampling)


class EntiGraphOptions(Options):
    """Options of `entigraph`."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"careful": {}, "paper": PAPER}
    former: ClassVar[dict[str, Any]] = {"check_names": False}
    name: Literal["entigraph"] = "entigraph"
    preset: Literal["careful", "paper"] = "careful"
    """paper: all pairs, many triples and no filters, as published."""
    arm: Literal["entigraph", "rephrase", "raw"] = "entigraph"
    """What a document becomes: texts about its entities, rephrasings, or itself."""
    writer: OtherModel | None = None
    """Who writes, and judges, the texts, such as {model: folder or Hub id}; null: the round's model."""
    token_budget: int | None = Field(None, ge=1)
    """Tokens published per round (seeded draw; the texts of a smaller budget are a subset of a larger one's).
    """
    entity_attempts: int = Field(3, ge=1)
    """Entity lists requested per document, at most."""
    enough_entities: int = Field(2, ge=2)
    """Another list is requested until all lists of a document together have this many entities."""
    max_entities: int | None = Field(30, ge=2)
    """Entities per list (guided decoding), and kept per document, most frequent first; null: no limit."""
    grounded: bool = True
    """Drop entities that the document does not mention."""
    max_pairs: int | None = Field(None, ge=0)
    """Pairs of entities per document; default: all."""
    max_triples: int = Field(100, ge=0)
    """Triples of entities per document, at most."""
    summary: bool = True
    """Publish the summary as a text too, as in the paper."""
    rephrasings: int = Field(3, ge=1)
    """Rephrasings of each document in each of the three styles."""
    sections: bool = True
    """Ask for a headed section on each entity and one on all of them, as published; off for small models."""
    check_sections: bool = True
    """Drop texts that do not have the sections they were asked for."""
    truncated: Literal["drop", "cut"] = "drop"
    """A text that hit max_tokens is left to filters.drop_truncated, or cut after its last whole sentence."""
    check_names: bool = True
    """Drop texts that do not name their document (half of the words of its title) and all their entities."""
    copy_chars: int | None = Field(200, ge=1)
    """Drop a text that copies a longer run of characters from its document; null: off."""
    near_duplicate: float | None = Field(0.8, gt=0, le=1)
    """Drop a text this similar to another of its document (MinHash); null: off."""
    faithfulness: float = Field(0.0, ge=0, le=1)
    """Share of texts that the model compares with their document; unfaithful ones are dropped."""
    sampling: Steps = Field(default_factory=Steps)
    """Sampling per kind of request."""
