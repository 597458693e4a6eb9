"""The held-out split: disjoint, by content, and stable when tasks are added."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import HeldOut
from pipeline.errors import DataError
from pipeline.ids import digest
from pipeline.rows import Row
from pipeline.store.spool import Rows, spooled
from stages.tasks import split_held_out


def task(question: str, options: list[str] | None = None) -> Row:
    return Row(digest([question, options])[:20], {"question": question, "options": options})


def tasks(n: int) -> list[Row]:
    return [task(f"What is {i}?") for i in range(n)]


def split(rows: list[Row], held_out: HeldOut, seed: int) -> tuple[Rows, Rows]:
    return split_held_out(spooled((row, "") for row in rows), held_out, seed)


def ids(rows: Iterable[Row]) -> set[str]:
    return {row.id for row in rows}


@given(st.integers(60, 300), st.integers(0, 200), st.integers(0, 5))
def test_adding_tasks_moves_none_across(n: int, more: int, seed: int) -> None:
    rows = tasks(n + more)
    train, held = split(rows[:n], HeldOut(share=0.3), seed)
    train_after, held_after = split(rows, HeldOut(share=0.3), seed)
    assert ids(train) <= ids(train_after)
    assert ids(held) <= ids(held_after)
    assert not ids(train_after) & ids(held_after)
    assert len(train_after) + len(held_after) == n + more


def test_share_count_and_seed() -> None:
    rows = tasks(2000)
    train, held = split(rows, HeldOut(share=0.2), 1)
    assert 330 < len(held) < 470
    kept = ids(train)
    assert [row.id for row in train] == [row.id for row in rows if row.id in kept]
    assert len(split(rows, HeldOut(count=7), 1)[1]) == 7
    assert ids(split(rows, HeldOut(count=7), 1)[1]) <= ids(held)
    assert ids(split(rows, HeldOut(count=7), 2)[1]) != ids(split(rows, HeldOut(count=7), 1)[1])
    assert ids(split(rows[::-1], HeldOut(share=0.2), 1)[1]) == ids(held)


def test_what_reads_the_same_as_a_held_out_task_is_in_neither_list() -> None:
    rows = tasks(40)
    _, held = split(rows, HeldOut(count=4), 0)
    twin = task(f"  {held[0].payload['question'].upper()}\n")
    other_options = task(held[0].payload["question"], ["a", "b"])
    train, held_after = split([*rows, twin, other_options], HeldOut(count=4), 0)
    assert ids(held_after) == ids(held), "the fixed hashes of these two are not among the smallest"
    assert twin.id not in ids(train)
    assert other_options.id in ids(train)


@pytest.mark.parametrize(
    ("rows", "held_out", "numbers"),
    [
        (tasks(3), HeldOut(count=3), "held_out.count 3 of 3 tasks leaves 0 to train on and 3 held out"),
        (
            tasks(1),
            HeldOut(share=0.0001),
            "held_out.share 0.0001 of 1 tasks leaves 1 to train on and 0 held out",
        ),
        (
            [task("Same?"), task("same?")],
            HeldOut(count=1),
            "leaves 0 to train on and 1 held out (1 read the same",
        ),
        ([], HeldOut(), "of 0 tasks"),
    ],
)
def test_a_side_may_not_be_empty(rows: list[Row], held_out: HeldOut, numbers: str) -> None:
    with pytest.raises(DataError) as caught:
        split(rows, held_out, 0)
    assert numbers in str(caught.value)
