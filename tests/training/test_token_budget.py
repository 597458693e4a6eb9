"""Forward passes by the number of tokens. That losses and models stay the same is in test_workers.py."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.token_budget import divided


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 200), st.integers(1, 20))
def test_every_row_is_in_one_part_within_the_budget(lengths: list[int], budget: int, least: int) -> None:
    parts = divided(lengths, budget, least)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    assert all(part for part in parts) and len(parts) >= min(least, len(lengths))
    assert all(len(part) == 1 or len(part) * max(lengths[r] for r in part) <= budget for part in parts)
    assert len(divided(lengths, sum(lengths) * len(lengths))) == 1


def test_short_rows_share_a_pass() -> None:
    assert divided([10, 100, 9, 11, 60], 100) == [[1], [4], [3, 0, 2]]
    assert divided([10, 100, 9, 11, 60], 100, 5) == [[1], [4], [3], [0], [2]]
