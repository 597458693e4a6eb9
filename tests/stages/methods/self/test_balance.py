"""Balance among the verdicts that train the critic."""

import random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows import Kept, Row
from stages.methods.self.balance import LEFT_OUT, balanced, note


def rows_of(approving: int, rejecting: int, others: int = 0) -> list[Row]:
    kinds = [(True, True)] * approving + [(False, True)] * rejecting + [(True, False)] * others
    return [Row(f"r{i}", {"initial_verdict": v, "teaches": t}) for i, (v, t) in enumerate(kinds)]


def teaches(row: Row) -> bool:
    return row.payload["teaches"] and not row.payload.get(LEFT_OUT)


def after(rows: list[Row], share: float, seed: int = 0) -> list[Row]:
    return [
        kept.rows[0] if isinstance(kept, Kept) else row
        for row, kept in balanced(share, seed, teaches)(lambda: rows)
    ]


@given(
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 5),
    st.sampled_from([0.1, 0.5, 0.6, 0.95]),
    st.randoms(),
)
def test_no_larger_share_approves_and_no_more_is_left_out_than_has_to_be(
    approving: int, rejecting: int, others: int, share: float, rng: random.Random
) -> None:
    rows = rows_of(approving, rejecting, others)
    made = after(rows, share)
    assert [row.id for row in made] == [row.id for row in rows], "every row still gives its direct answer"
    left = sum(teaches(row) and row.payload["initial_verdict"] for row in made)
    assert left <= share * (left + rejecting) + 1e-6
    assert left == approving or left + 1 > share * (left + 1 + rejecting)
    assert not any(row.payload.get(LEFT_OUT) for row in made[approving:])
    shuffled = {row.id: row for row in after(rng.sample(rows, len(rows)), share)}
    assert all(shuffled[row.id] == row for row in made), "whatever their order"


def test_the_draw_depends_on_the_seed() -> None:
    rows = rows_of(40, 10)
    drawn = {tuple(row.id for row in after(rows, 0.6, seed) if teaches(row)) for seed in (0, 1, 2)}
    assert len(drawn) == 3 and {len(d) for d in drawn} == {25}


def test_what_the_card_says() -> None:
    said = "Verdicts that train the critic: 15 approve, 10 reject; 25 more that approve were left out"
    assert note(after(rows_of(40, 10, 3), 0.6), teaches).startswith(said)
    assert note(rows_of(0, 0, 4), teaches) == ""
