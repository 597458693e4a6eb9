"""Derived identifiers: the same inputs give the same ids, never random, so resuming is safe."""

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

ID_CHARS = 20  # 80 bits: a collision among 10^9 rows has a chance of about 4e-7


def digest(value: Any) -> str:
    """Return the sha256 hex digest of `value` as canonical JSON (keys sorted)."""
    data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(data).hexdigest()


def row_id(parents: Sequence[str], stage: str, index: int | str) -> str:
    """Return the id of the `index`-th row that `stage` makes from `parents`."""
    return digest([list(parents), stage, index])[:ID_CHARS]


def unit_interval(*parts: Any) -> float:
    """Map `parts` to a fixed, uniform number in [0, 1), for seeded splits, shuffles and caps."""
    return int(digest(list(parts))[:13], 16) / 16**13
