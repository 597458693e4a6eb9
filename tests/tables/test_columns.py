"""Types of columns: found from values over batches, JSON text where there is none, and nothing lost."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tables.columns import JSON_TEXT, MAX_FIELDS, Table

INT, FLOAT, TEXT = pa.int64(), pa.float64(), pa.string()


def table_of(*batches: list[dict[str, Any]]) -> pa.Table:
    table = Table("t", lambda: iter(batches), {})
    schema = table.schema()
    return pa.Table.from_batches(table.arrow(schema), schema)


@pytest.mark.parametrize(
    "values, type_",
    [
        ([1, None, 2], INT),
        ([1, 2.5], FLOAT),
        ([2**53 + 1, 2.5], FLOAT),
        ([True, False], pa.bool_()),
        ([None, None], TEXT),
        ([[], [1]], pa.list_(INT)),
        ([[], []], pa.list_(TEXT)),
        ([{"a": 1}, {"b": "x"}], pa.struct([("a", INT), ("b", TEXT)])),
        ([{"a": 1}, {"a": 2.5}], pa.struct([("a", FLOAT)])),
        ([[{"a": None}], [{"a": [1]}]], pa.list_(pa.struct([("a", pa.list_(INT))]))),
    ],
)
def test_types(values: list[Any], type_: pa.DataType):
    for batches in ([[{"x": v} for v in values]], [[{"x": v}] for v in values]):
        if values[0] == 2**53 + 1 and len(batches) == 1:
            continue  # in one batch they become text
        assert table_of(*batches).schema.field("x").type == type_


@pytest.mark.parametrize(
    "values",
    [
        *([[1], 1], [{"a": 1}, {"a": "x"}], [[1], ["x"]], [{}, {}], [{"a": {}}, None], [1, "x", [2]]),
        [{f"key {i}": i} for i in range(MAX_FIELDS + 1)],
    ],
)
def test_values_without_one_type_become_json(values: list[Any]):
    for batches in ([[{"x": v} for v in values]], [[{"x": v}] for v in values]):
        table = table_of(*batches)
        assert table.schema.field("x").metadata == JSON_TEXT
        assert [None if t is None else json.loads(t) for t in table["x"].to_pylist()] == values


@pytest.mark.parametrize("values", [[1, "1"], [True, 1, None], [1.5, "x", 2], [2**63, 1], ["x", False]])
def test_scalars_of_several_types_become_text(values: list[Any]):
    for batches in ([[{"x": v} for v in values]], [[{"x": v}] for v in values]):
        table = table_of(*batches)
        assert table.schema.field("x").type == TEXT and not table.schema.field("x").metadata
        texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
        assert table["x"].to_pylist() == texts


def test_declared_keys_have_their_type_whatever_the_values():
    table = table_of([{"verdict": {"correct": True, "score": None}, "sample": None, "text": None}])
    assert table.schema.field("verdict").type.field("score").type == FLOAT
    assert (table.schema.field("sample").type, table.schema.field("text").type) == (INT, TEXT)
    own = table_of([{"verdict": {"correct": True, "why": "the method's own"}}, {"text": 7}])
    assert own["verdict"][0]["why"].as_py() == "the method's own"
    assert own["text"].to_pylist() == [None, "7"]


JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(
        st.lists(st.dictionaries(st.sampled_from(["x", "y"]), JSONS, max_size=2), min_size=1), max_size=3
    )
)
def test_nothing_is_lost(batches: list[list[dict[str, Any]]]):
    batches = [[record | {"id": "r"} for record in batch] for batch in batches]  # as every table has
    table = table_of(*batches)
    records = [record for batch in batches for record in batch]
    assert table.num_rows == len(records)
    for field in table.schema:
        for record, value in zip(records, table[field.name].to_pylist(), strict=True):
            stored, found = record.get(field.name), value
            among_texts = isinstance(value, str) and not isinstance(stored, str)
            if among_texts or (field.metadata == JSON_TEXT and value is not None):
                found = json.loads(value)
            assert filled(stored) == filled(found)


def filled(value: Any) -> Any:
    """Return a value without the nulls of objects, which structs fill in."""
    if isinstance(value, dict):
        return {k: f for k, v in value.items() if (f := filled(v)) is not None} or "no fields"
    if isinstance(value, list):
        return [filled(v) for v in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
