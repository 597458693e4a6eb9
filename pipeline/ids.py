"""Derived identifiers. Nothing here is random: the same inputs give the same ids, which is what makes resuming safe."""

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

ID_CHARS = 20  # 80 bits: a collision among 10^9 rows has a chance of about 4e-7


def digest(value: Any) -> str:
    """Return the sha256 hex digest of `value` as canonical JSON (keys sorted)."""
    return hashlib.sha256(
        orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    ).hexdigest()


def row_id(parents: Sequence[str], stage: str, index: int | str) -> str:
    """Return the id of the `index`-th row that `stage` makes from `parents`."""
    return digest([list(parents), stage, index])[:ID_CHARS]


def unit_interval(*parts: Any) -> float:
    """Map `parts` to a number in [0, 1), uniform and fixed for ever: used for splits, shuffles and caps."""
    return int(digest(list(parts))[:13], 16) / 16**13
