"""Publishing: frozen schemas, dataset folders with cards, and the mixtures that models train on.

What writes and reads the folders (`dataset`, `loading`) is imported by itself: it takes a second.
"""

from pipeline.publish.accumulate import Mixture, Part, mixture
from pipeline.publish.card import CardFacts
from pipeline.publish.kinds import CPT, DPO, KINDS, KTO, SFT, TURNS, Kind, measure
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
    "measure",
    "mixture",
    "surely_fit",
    "text_ids",
    "token_lengths",
]
