"""Ids are derived, stable and canonical."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.ids import ID_CHARS, digest, row_id, unit_interval

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda v: st.lists(v) | st.dictionaries(st.text(), v),
)


@given(st.dictionaries(st.text(), JSON))
def test_digest_does_not_depend_on_the_order_of_keys(value: dict) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


def test_ids_are_fixed_for_ever() -> None:
    """These values are in run directories already: a change of the hash would orphan all stored rows."""
    assert (
        row_id(["a", "b"], "generate", 0)
        == digest([["a", "b"], "generate", 0])[:ID_CHARS]
        == "966b09805bcf1784e8f6"
    )
    assert unit_interval(1, "x") == 0.6940152080050233


@given(
    st.lists(
        st.tuples(st.lists(st.text(), max_size=3), st.text(), st.integers(0, 99) | st.text()),
        unique_by=repr,
        max_size=30,
    )
)
def test_different_origins_give_different_ids(origins: list) -> None:
    assert len({row_id(*o) for o in origins}) == len(origins)


def test_parents_and_stage_are_not_run_together() -> None:
    assert (
        len(
            {
                row_id(["ab"], "c", 0),
                row_id(["a", "b"], "c", 0),
                row_id(["a"], "bc", 0),
                row_id(["ab"], "c", "0"),
            }
        )
        == 4
    )


@given(st.lists(JSON))
def test_unit_interval(parts: list) -> None:
    assert 0 <= unit_interval(*parts) < 1


def test_unit_interval_is_uniform() -> None:
    found = [unit_interval("seed", i) for i in range(4000)]
    assert all(350 < sum(k / 10 <= x < (k + 1) / 10 for x in found) < 450 for k in range(10))
