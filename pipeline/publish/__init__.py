"""Publishing: one frozen schema, dataset folders with cards that every loader reads, and the mixtures models train on."""

from pipeline.publish.accumulate import Mixture, Part, load_mixture, mixture
from pipeline.publish.card import CardFacts, card
from pipeline.publish.dataset import measure, publish, shares, token_lengths, write_dataset
from pipeline.publish.schema import FEATURES, SCHEMA_VERSION, PublishedRow, published_row

__all__ = [
    "FEATURES",
    "SCHEMA_VERSION",
    "CardFacts",
    "Mixture",
    "Part",
    "PublishedRow",
    "card",
    "load_mixture",
    "measure",
    "mixture",
    "publish",
    "published_row",
    "shares",
    "token_lengths",
    "write_dataset",
]
