"""Lossless JSON for Python values, so that a reasoning_gym entry reaches its scorer as it left its generator.

Plain JSON turns tuples into lists and integer keys into texts, after which `arc_agi` scores its own right
answer 0.05. So what JSON lacks is written as an object with one key: {"$tuple": [1, 2]}.
"""

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy

from pipeline.errors import DataError

_INT64 = 2**63  # the limit of JSON readers such as orjson

_READ: dict[str, Callable[[Any], Any]] = {
    "$tuple": lambda v: tuple(map(unpack, v)),
    "$set": lambda v: set(map(unpack, v)),
    "$frozenset": lambda v: frozenset(map(unpack, v)),
    "$dict": lambda v: {unpack(k): unpack(x) for k, x in v},
    "$int": int,
    "$float": float,
    "$Fraction": Fraction,
    "$Decimal": Decimal,
    "$complex": complex,
}


def pack(value: Any, path: str = "entry") -> Any:
    """Return `value` in JSON types for `unpack`. NumPy's numbers and texts become Python's.

    Raises DataError, naming the `path` to the value, for an unknown type.
    """
    if isinstance(value, numpy.ndarray | numpy.generic):
        value = value.tolist()
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if -_INT64 <= value < _INT64 else {"$int": str(value)}
        case float():
            return value if math.isfinite(value) else {"$float": str(value)}
        case list() | tuple():
            items = [pack(v, f"{path}[{i}]") for i, v in enumerate(value)]
            return items if isinstance(value, list) else {"$tuple": items}
        case set() | frozenset():
            return {f"${type(value).__name__}": sorted((pack(v, f"{path}{{}}") for v in value), key=repr)}
        case dict():
            if all(type(k) is str for k in value) and not (len(value) == 1 and next(iter(value)) in _READ):
                return {k: pack(v, f"{path}.{k}") for k, v in value.items()}
            return {"$dict": [[pack(k, f"{path} key"), pack(v, f"{path}.{k}")] for k, v in value.items()]}
        case Fraction() | Decimal() | complex():
            return {f"${type(value).__name__}": str(value)}
    raise DataError(
        f"{path} is of type {type(value).__name__}, which cannot be stored for the dataset's scorer."
    )


def unpack(value: Any) -> Any:
    """Return the value that `pack` was given."""
    if isinstance(value, list):
        return [unpack(v) for v in value]
    if isinstance(value, dict):
        if len(value) == 1 and (tag := next(iter(value))) in _READ:
            return _READ[tag](value[tag])
        return {k: unpack(v) for k, v in value.items()}
    return value
