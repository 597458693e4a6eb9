"""The lineage columns of published datasets, defined once for every kind, and a method's own beside them.

Types of columns are plain data here, the names of `datasets` and lists and structs of them: importing
`datasets` takes a second, which stages do without (Kind.features).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, get_args

import orjson

from pipeline.errors import ConfigError

PublishedRow = dict[str, Any]  # one row of a dataset, with exactly the columns of its kind

MANIFEST, SPLIT = "manifest.json", "train"  # in a dataset's folder
MESSAGES = [{"role": "string", "content": "string"}]
OWN_TYPES = {"string": "string", "strings": ["string"]}  # see Method.lineage

# The types of Lineage's fields, each with that of its column.
Text = Annotated[str, "string"]
Texts = Annotated[Sequence[str], ["string"]]
Json = Annotated[object, "string"]  # any JSON value, stored as text; None is ""


@dataclass(slots=True, frozen=True, kw_only=True)
class Lineage:
    """Where a published row comes from; every field is a column, ids as they are, others as `src_<field>`.

    Columns come in this order. A kind has some of them (Kind.lineage) and ignores the values of others.
    """

    row_id: Text
    parent_ids: Texts  # of a pair: the chosen row, then the rejected one
    task_id: Text  # the question, or the document
    kind: Annotated[Literal["real", "synthetic"], "string"]
    record: Text = ""  # the method's name for this sort of conversation
    round: Annotated[int, "int32"]  # 0: real demonstrations
    method: Text
    own: Mapping[str, Any] = field(default_factory=dict)  # the columns that the method declares
    model: Text = ""  # "name@revision"; "" for real rows
    chosen_model: Text = ""
    rejected_model: Text = ""
    sampling: Json = None
    verdict: Json = None
    chosen_verdict: Json = None
    rejected_verdict: Json = None
    hinted: Annotated[bool, "bool"] = False  # the model had been shown the answer

    def columns(self) -> dict[str, Any]:
        """Return the values by column."""
        values: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "own":
                values |= {f"src_{key}": cell for key, cell in value.items()}
            elif f.type is Json:
                text = "" if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
                values[_column(f.name)] = text
            else:
                values[_column(f.name)] = list(value) if f.type is Texts else value
        return values


def lineage_columns(wanted: Sequence[str], own: Mapping[str, str]) -> dict[str, Any]:
    """Return the types of the `wanted` fields of Lineage, and of a method's `own` columns.

    Raises ConfigError for a column of an unknown type or with the name of another.
    """
    names = {f.name for f in fields(Lineage)}
    for key, type_ in own.items():
        if type_ not in OWN_TYPES:
            raise ConfigError(
                f"Method.lineage: {key!r} is {type_!r}; expected one of {', '.join(OWN_TYPES)}."
            )
        if key in names:
            raise ConfigError(f"Method.lineage: {key!r} is a column of every method; choose another name.")
    types: dict[str, Any] = {}
    for f in fields(Lineage):
        if f.name == "own":
            types |= {f"src_{key}": OWN_TYPES[type_] for key, type_ in own.items()}
        elif f.name in wanted:
            types[_column(f.name)] = get_args(f.type)[1]
    return types


def _column(name: str) -> str:
    return name if name.endswith(("_id", "_ids")) else f"src_{name}"
