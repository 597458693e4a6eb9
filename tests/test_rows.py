"""Rows go to Arrow and back unchanged."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows import (
    REJECT_SCHEMA,
    ROW_SCHEMA,
    Dropped,
    Failed,
    Row,
    rejects_to_table,
    rows_to_table,
    table_to_rows,
)

VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(
    st.builds(
        Row,
        st.text(min_size=1),
        st.dictionaries(st.text(), VALUE, max_size=4),
        st.lists(st.text(), max_size=3),
    ),
    max_size=8,
)


@given(ROWS)
def test_rows_round_trip(rows: list[Row]) -> None:
    table = rows_to_table(rows)
    assert table.schema == ROW_SCHEMA
    assert list(table_to_rows(table)) == rows


@given(ROWS, st.text(), st.text())
def test_rejects_round_trip(rows: list[Row], detail: str, raw: str) -> None:
    rejects = [
        (r, Dropped("bad", detail, raw) if i % 2 else Failed("broken", detail, raw))
        for i, r in enumerate(rows)
    ]
    table = rejects_to_table(rejects)
    assert table.schema == REJECT_SCHEMA
    assert table["reason"].to_pylist() == ["bad" if i % 2 else "broken" for i in range(len(rows))]
    assert list(table_to_rows(table)) == rows


def test_child_keeps_the_payload_and_names_its_parent() -> None:
    row = Row("p", {"question": "q", "n": 1})
    child = row.child("generate", 3, n=2, text="t")
    assert child.payload == {"question": "q", "n": 2, "text": "t"} and child.parents == ["p"]
    assert row.payload == {"question": "q", "n": 1}
    assert child.id == row.child("generate", 3).id != row.child("generate", 4).id
