"""Publishing: frozen schemas, dataset folders with cards, and the mixtures that models train on."""

from pipeline.publish.accumulate import Mixture, Part, load_mixture, mixture
from pipeline.publish.card import CardFacts
from pipeline.publish.dataset import measure, publish
from pipeline.publish.kinds import CPT, DPO, KINDS, KTO, SFT, TURNS, Kind
from pipeline.publish.loss_mask import Turn
from pipeline.publish.schema import Lineage, PublishedRow
from pipeline.publish.tokens import joint_tokens, lengths_of, surely_fit, text_ids, token_lengths

__all__ = [
    "CPT",
    "DPO",
    "KINDS",
    "KTO",
    "SFT",
    "TURNS",
    "CardFacts",
    "Kind",
    "Lineage",
    "Mixture",
    "Part",
    "PublishedRow",
    "Turn",
    "joint_tokens",
    "lengths_of",
    "load_mixture",
    "measure",
    "mixture",
    "publish",
    "surely_fit",
    "text_ids",
    "token_lengths",
]
