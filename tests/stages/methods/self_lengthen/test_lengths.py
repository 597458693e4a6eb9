"""Word counts, length scores, demands that a text meets, and the length-biased drop.

The vectors of Self-Lengthen 1.15, and its faults 3, 4 and 11.
"""

# ruff: noqa: RUF001 - Chinese punctuation is what is counted

from collections import Counter

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.rows import Row
from stages.methods.self_lengthen.lengths import (
    KINDS,
    Demand,
    demand_for,
    draw_demand,
    is_chinese,
    is_unspaced,
    keep_probability,
    length_biased,
    length_score,
    states,
    words,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("你好，世界。hello world", 8),
        ("", 0),
        ("one two\n\nthree", 3),
        ("well-known don't", 2),
        ("第1章：开始", 6),  # the colon counts
        ("「好」", 3),
        ("ＡＢＣ", 3),  # full-width forms count one by one
        ("\u092f\u0939 \u0917\u093e\u0901\u0935 \u0939\u0948\u0964", 3),  # Hindi
    ],
)
def test_words(text: str, count: int) -> None:
    assert words(text) == count


# The first article of human rights: 14 words of Thai, in two clauses.
THAI = "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน ในเกียรติศักดิ์และสิทธิ"


def test_words_of_a_script_without_spaces_are_estimated_not_taken_for_one() -> None:
    assert words(THAI) == pytest.approx(14, abs=2)
    assert words(f"{THAI} 2,000 km") == words(THAI) + 2
    assert is_unspaced(THAI) and is_unspaced(f"{THAI} by the UN") and not is_chinese(THAI)
    assert not is_unspaced("A word of Thai: \u0e21\u0e35.") and not is_unspaced("")


def test_which_texts_are_chinese() -> None:
    assert is_chinese("这是一篇文章。") and is_chinese("他说 hello world，然后走了。")
    assert not is_chinese("An essay on the word 好.") and not is_chinese("")


@pytest.mark.parametrize(
    ("length", "score"),
    [
        (1500, 0.5),
        (5000, 0.5),
        (1000, 0.0),
        (2000, 1.0),
        (4000, 1.0),
        (3000, 1.0),
        (6000, 0.0),
        (0, 0.0),
        (9000, 0.0),
    ],
)
def test_length_score(length: int, score: float) -> None:
    assert length_score(length, 2000, 4000) == pytest.approx(score)


@pytest.mark.parametrize(
    ("demand", "interval"),
    [
        ("about 1000", (800, 1200)),
        ("range 2000-4000", (2000, 4000)),
        ("above 1000", (1000, 1500)),
        ("below 1000", (500, 1000)),
    ],
)
def test_the_interval_of_each_kind(demand: str, interval: tuple[float, float]) -> None:
    assert Demand.parse(demand).interval == interval
    assert str(Demand.parse(demand)) == demand


@pytest.mark.parametrize(
    "text",
    [
        "abot 100",
        "about",
        "about 100-200",
        "range 100",
        "range 200-100",
        "below 0",
        "100",
        "above -5",
        "about 1.5",
    ],
)
def test_a_demand_that_cannot_be_read_says_what_was_expected(text: str) -> None:
    with pytest.raises(DataError, match="expected e.g. 'about 150', 'range 100-200'"):
        Demand.parse(text)


@given(st.integers(1, 20_000), st.sampled_from(sorted(KINDS)), st.sampled_from([1, 50, 1000, 2000, 30]))
def test_faults_3_and_4_every_demand_is_met_in_full(length: int, kind: str, unit: int) -> None:
    """The evaluator gives every training pair 1.

    A demand's words are true of the text in its own direction.
    """
    demand = demand_for(length, kind, unit)
    assert demand.score(length) == 1 and Demand.parse(str(demand)) == demand
    assert {
        "about": True,
        "range": demand.numbers[0] <= length <= demand.numbers[-1],
        "above": length >= demand.numbers[0],
        "below": length <= demand.numbers[0],
    }[kind]
    assert kind != "range" or demand.numbers[0] < demand.numbers[1], "never 3000-3000"


def test_demands_are_as_round_as_they_can_be() -> None:
    assert demand_for(3400, "about", 1000).numbers == (3000,)
    assert demand_for(3400, "range", 1000).numbers == (3000, 4000)
    assert demand_for(3000, "range", 1000).numbers == (3000, 4000)
    assert demand_for(1300, "about", 1000).numbers == (1500,), "1000 would be further than a fifth away"
    assert demand_for(2900, "above", 2000).numbers == (2000,)
    assert demand_for(1600, "above", 1000).numbers == (1500,)
    assert demand_for(2100, "below", 1000).numbers == (3000,)
    with pytest.raises(ValueError, match="no text has 0 words"):
        demand_for(0, "about", 1000)


def test_kinds_are_drawn_by_their_shares_and_by_the_key_alone() -> None:
    drawn = [draw_demand(3456, 1000, 0, i) for i in range(4000)]
    shares = {kind: count / 4000 for kind, count in Counter(d.kind for d in drawn).items()}
    assert shares == pytest.approx(KINDS, abs=0.03)
    assert (
        drawn
        == [draw_demand(3456, 1000, 0, i) for i in range(4000)]
        != [draw_demand(3456, 1000, 1, i) for i in range(4000)]
    )
    assert sum(d.numbers == (4000,) for d in drawn if d.kind == "below") and {(3000,), (4000,)} >= {
        d.numbers for d in drawn if d.kind == "about"
    }


@pytest.mark.parametrize(
    ("text", "demand", "stated"),
    [
        ("Write about 300 words on bees.", "about 300", True),
        ("Write a 300-word essay on bees.", "about 300", True),
        ("Write 1,500 words on bees.", "about 1500", True),
        ("Write on bees.", "about 300", False),
        ("Write about 300 words on 12 bees.", "about 300", False),
        ("Write about 300 words on the 7 bees.", "about 300", True),  # the 7 was there before
        ("Write at most 300 words on bees.", "about 300", False),
        ("Write at least 300 words on bees.", "above 300", True),
        ("Write no fewer than 300 words on bees.", "above 300", True),
        ("Write 300 words or more on bees.", "above 300", True),
        ("Write no more than 300 words on bees.", "above 300", False),
        ("Write 300 words on bees.", "above 300", False),
        ("Write no more than 300 words on bees.", "below 300", True),
        ("Write at most 300 words on bees.", "below 300", True),
        ("Write more than 300 words on bees.", "below 300", False),
        ("Write over the bees, at least 1,300 words.", "above 1300", True),
        ("Write 200 to 300 words on bees.", "range 200-300", True),
        ("Write 200 words on bees.", "range 200-300", False),
        ("Write a text on bees that does not exceed 300 words.", "about 300", False),
        ("Write on bees (maximum 300 words).", "about 300", False),
        ("Write on bees, with a minimum word count of 300.", "about 300", False),
        ("Write on bees, with a minimum word count of 300.", "above 300", True),
        ("Write a text on bees that must not exceed 300 words.", "below 300", True),
        ("写一篇约300字的文章。", "about 300", True),
        ("写一篇不超过300字的文章。", "about 300", False),
        ("写一篇不超过300字的文章。", "below 300", True),
        ("写一篇不少于300字的文章。", "below 300", False),
        ("写一篇至少300字的文章。", "above 300", True),
    ],
)
def test_an_instruction_states_its_demand(text: str, demand: str, stated: bool) -> None:
    assert (
        states(text, Demand.parse(demand), "Write on the 7 bees." if "7" in text else "Write on bees.")
        is stated
    )


def test_the_chance_to_be_kept() -> None:
    assert keep_probability(0, 100) == 0
    assert keep_probability(50, 100) == 0.75
    assert keep_probability(99, 100) == pytest.approx(1, abs=1e-5)
    assert keep_probability(20, 100) == 0 < keep_probability(21, 100), "the shortest 20.6% have none"


def drop(rows: list[Row], seed: int = 0) -> set[str]:
    step = cloudpickle.loads(cloudpickle.dumps(length_biased("words", seed)))
    judged = list(step(lambda: iter(rows)))
    assert [row.id for row, _ in judged] == [row.id for row in rows]
    assert {why.reason for _, why in judged if why} <= {"length_bias"}
    return {row.id for row, why in judged if why is None}


def rows_of(lengths: list[int]) -> list[Row]:
    return [Row(f"r{i}", {"words": n, "text": "t"}) for i, n in enumerate(lengths)]


def test_the_kept_share_is_0_595() -> None:
    rows = rows_of(list(range(5000)))
    kept = drop(rows)
    assert len(kept) / 5000 == pytest.approx(0.595, abs=0.02)
    assert not kept & {f"r{i}" for i in range(1000)} and {f"r{i}" for i in range(4900, 5000)} <= kept
    mean = sum(int(i[1:]) for i in kept) / len(kept)
    assert mean > 1.2 * 2500


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.randoms())
def test_fault_11_the_order_of_the_rows_decides_nothing(lengths: list[int], random: object) -> None:
    rows = rows_of(lengths)
    mixed = list(rows)
    random.shuffle(mixed)
    assert drop(rows) == drop(mixed)


def test_fault_11_equal_lengths_have_equal_chances_and_the_seed_decides() -> None:
    rows = rows_of([7] * 2000)
    assert len(drop(rows)) / 2000 == pytest.approx(0.75, abs=0.03), "none is worse off for standing first"
    assert drop(rows) != drop(rows, seed=1)
