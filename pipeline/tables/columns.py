"""Typed Arrow columns from JSON objects whose types only their values tell.

A column starts with the type that pipeline/payload.py declares for its key, if any, and widens with the
values: integers to floats, structs to the union of their fields. Numbers, booleans and texts in one column
become texts. Where values differ more, and for objects that serve as maps, it holds each value's JSON text.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from pipeline.payload import KEYS

Record = dict[str, Any]
# These stand for text while types are found: of scalars of several types, and of JSON.
SCALARS, JSON = pa.large_string(), pa.json_()
JSON_TEXT = {b"content": b"json"}  # metadata of a text column that holds JSON
MAX_FIELDS = 64  # an object with more different keys is a map: its keys are data


class Table(NamedTuple):
    """A named table: its records, in batches, and the columns that come first and are always there.

    `batches` can be called any number of times and yields the same records.
    """

    name: str
    batches: Callable[[], Iterator[list[Record]]]
    first: dict[str, pa.DataType]

    def schema(self) -> pa.Schema:
        """Return the columns: `first`, then others in the order in which they occur. Reads all records."""
        found = dict(self.first)
        for batch in self.batches():
            for name in dict.fromkeys(name for record in batch for name in record):
                before = found[name] if name in found else _declared(name)
                if before != JSON:
                    before = unify(before, _infer([record.get(name) for record in batch]))
                found[name] = before
        return pa.schema([_field(name, type_) for name, type_ in found.items()])

    def arrow(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the records as Arrow record batches in `schema`, which `schema()` returned."""
        for batch in self.batches():
            columns = [_column([record.get(f.name) for record in batch], f) for f in schema]
            yield pa.record_batch(columns, schema=schema)


def unify(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    """Return the type that holds the values of both, JSON if there is none."""
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if {a, b} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(a) and pa.types.is_list(b):
        item = unify(a.value_type, b.value_type)
        return JSON if item in (JSON, SCALARS) else pa.list_(item)
    if pa.types.is_struct(a) and pa.types.is_struct(b):
        fields = {f.name: f.type for f in a}
        for f in b:
            fields[f.name] = unify(fields.get(f.name, pa.null()), f.type)
        is_map = len(fields) > MAX_FIELDS
        mixed = any(type_ in (JSON, SCALARS) for type_ in fields.values())
        return JSON if is_map or mixed else pa.struct(list(fields.items()))
    return JSON if pa.types.is_nested(a) or pa.types.is_nested(b) or JSON in (a, b) else SCALARS


def _declared(name: str) -> pa.DataType:
    key = KEYS.get(name)
    return pa.null() if key is None or key.type is None else key.type


def _infer(values: list[Any]) -> pa.DataType:
    try:
        return pa.array(values).type
    except (pa.ArrowException, OverflowError):
        return JSON if any(isinstance(value, dict | list) for value in values) else SCALARS


def _field(name: str, type_: pa.DataType) -> pa.Field:
    """Return the column to store: without nulls for want of values, and JSON text for what is no struct."""
    if type_ == JSON or _is_map(type_):
        return pa.field(name, pa.string(), metadata=JSON_TEXT)
    return pa.field(name, pa.string() if type_ == SCALARS else _without_nulls(type_))


def _is_map(type_: pa.DataType) -> bool:
    """Tell whether a type holds a struct without fields, which few formats store, or with too many."""
    if pa.types.is_list(type_):
        return _is_map(type_.value_type)
    if pa.types.is_struct(type_):
        return not 0 < type_.num_fields <= MAX_FIELDS or any(_is_map(f.type) for f in type_)
    return False


def _without_nulls(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_null(type_):
        return pa.string()
    if pa.types.is_list(type_):
        return pa.list_(_without_nulls(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([(f.name, _without_nulls(f.type)) for f in type_])
    return type_


def _column(values: list[Any], field: pa.Field) -> pa.Array:
    if field.metadata == JSON_TEXT:
        values = [None if v is None else orjson.dumps(v).decode() for v in values]
    elif pa.types.is_string(field.type):
        values = [v if v is None or isinstance(v, str) else orjson.dumps(v).decode() for v in values]
    try:
        return pa.array(values, field.type)
    except pa.ArrowInvalid:  # an integer that no float holds exactly
        return pa.array(values).cast(field.type, safe=False)
