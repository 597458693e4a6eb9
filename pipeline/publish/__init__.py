"""Publishing: a frozen schema for each kind, dataset folders with cards that every loader reads, and the mixtures models train on."""

from pipeline.publish.accumulate import Mixture, Part, load_mixture, mixture
from pipeline.publish.card import CardFacts, card
from pipeline.publish.corpus import TEXT_FEATURES, TextRow, text_ids, text_row
from pipeline.publish.dataset import joint_tokens, measure, publish, shares, token_lengths, write_dataset
from pipeline.publish.kinds import CPT, DPO, KINDS, SFT, TURNS, Kind
from pipeline.publish.preference import PAIR_FEATURES, PairRow, pair_row
from pipeline.publish.schema import FEATURES, SCHEMA_VERSION, PublishedRow, published_row
from pipeline.publish.turns import TURN_FEATURES, Turn, TurnRow, turn_row

__all__ = [
    "CPT",
    "DPO",
    "FEATURES",
    "KINDS",
    "PAIR_FEATURES",
    "SCHEMA_VERSION",
    "SFT",
    "TEXT_FEATURES",
    "TURNS",
    "TURN_FEATURES",
    "CardFacts",
    "Kind",
    "Mixture",
    "PairRow",
    "Part",
    "PublishedRow",
    "TextRow",
    "Turn",
    "TurnRow",
    "card",
    "joint_tokens",
    "load_mixture",
    "measure",
    "mixture",
    "pair_row",
    "publish",
    "published_row",
    "shares",
    "text_ids",
    "text_row",
    "token_lengths",
    "turn_row",
    "write_dataset",
]
