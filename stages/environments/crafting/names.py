"""Invented item names, such as `bokir`, which no prior knowledge relates. A name belongs to one split."""

from collections.abc import Iterator
from random import Random

from pipeline.ids import unit_interval
from stages.environments.base import Split

_ONSETS, _VOWELS, _CODAS = "bdfhklmnprtvz", "aeiou", "klmnrtvx"  # 33,800 names


def invented_names(rng: Random, split: Split) -> Iterator[str]:
    """Yield distinct names of the split, of which there are at least 3,300."""
    seen: set[str] = set()
    while True:
        name = "".join(map(rng.choice, (_ONSETS, _VOWELS, _ONSETS, _VOWELS, _CODAS)))
        if name not in seen and split_of(name) == split:
            seen.add(name)
            yield name


def split_of(name: str, *key: object) -> Split:
    """Return the split of a name by its hash: 80% train, 10% dev, 10% test. `key` seeds another partition."""
    place = unit_interval("crafting", *key, name)
    return "train" if place < 0.8 else "dev" if place < 0.9 else "test"
