"""The lineage columns of published datasets, defined once for every kind, and a method's own beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

import orjson
from datasets import List, Value

from pipeline.errors import ConfigError

PublishedRow = dict[str, Any]  # one row of a dataset, with exactly the columns of its kind

MESSAGES = List({"role": Value("string"), "content": Value("string")})
OWN_TYPES = {"string": Value("string"), "strings": List(Value("string"))}  # see Method.lineage

Text = Annotated[str, Value("string")]
Texts = Annotated[Sequence[str], List(Value("string"))]
Json = Annotated[object, Value("string")]  # any JSON value, stored as text; None is ""


@dataclass(slots=True, frozen=True, kw_only=True)
class Lineage:
    """Where a published row comes from; every field is a column, ids as they are, others as `src_<field>`.

    The order here is the order of the columns. A kind has some of them (Kind.lineage); the values of others
    are ignored.
    """

    row_id: Text
    parent_ids: Texts  # of a pair: the chosen row, then the rejected one
    task_id: Text  # the question, or the document
    kind: Annotated[Literal["real", "synthetic"], Value("string")]
    record: Text = ""  # the method's name for this sort of conversation
    round: Annotated[int, Value("int32")]  # 0: real demonstrations
    method: Text
    own: Mapping[str, Any] = field(default_factory=dict)  # the columns that the method declares
    model: Text = ""  # "name@revision"; "" for real rows
    chosen_model: Text = ""
    rejected_model: Text = ""
    sampling: Json = None
    verdict: Json = None
    chosen_verdict: Json = None
    rejected_verdict: Json = None
    hinted: Annotated[bool, Value("bool")] = False  # the model had been shown the answer

    def columns(self) -> dict[str, Any]:
        """Return the values by column."""
        values = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "own":
                values |= {f"src_{key}": cell for key, cell in value.items()}
            elif f.type is Json:
                values[_column(f.name)] = json_text(value)
            else:
                values[_column(f.name)] = list(value) if f.type is Texts else value
        return values


def lineage_features(wanted: Sequence[str], own: Mapping[str, str]) -> dict[str, Any]:
    """Return the features of the `wanted` fields of Lineage, and of a method's `own` columns.

    Raises ConfigError for a column of an unknown type or with the name of another.
    """
    features = {}
    for f in fields(Lineage):
        if f.name == "own":
            features |= _own_features(own)
        elif f.name in wanted:
            features[_column(f.name)] = f.type.__metadata__[0]
    return features


def json_text(value: object) -> str:
    """Return a JSON value as text with sorted keys; "" for None."""
    return "" if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _own_features(own: Mapping[str, str]) -> dict[str, Any]:
    for key, type_ in own.items():
        if type_ not in OWN_TYPES:
            raise ConfigError(
                f"lineage column {key!r} has the type {type_!r}; use one of {', '.join(OWN_TYPES)}."
            )
        if key in {f.name for f in fields(Lineage)}:
            raise ConfigError(f"lineage column {key!r} is one that every method has; choose another name.")
    return {f"src_{key}": OWN_TYPES[type_] for key, type_ in own.items()}


def _column(name: str) -> str:
    return name if name.endswith(("_id", "_ids")) else f"src_{name}"
