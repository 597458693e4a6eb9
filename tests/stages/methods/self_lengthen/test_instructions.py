"""Instructions that a model writes (Self-Lengthen 1.5, fault 13)."""

# ruff: noqa: RUF001 - a judge may answer in Chinese

import random

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows import Row
from stages.methods.self_lengthen.instructions import _grams as grams
from stages.methods.self_lengthen.instructions import agreed, alike, distinct, keeps, near_duplicates, problem


@pytest.mark.parametrize(
    "reply", ["yes", "Yes.", "YES", " yes\n", "Yes, it is.", '"Yes"', "**Yes**", "是。", "是的，适合。"]
)
def test_fault_13_a_yes_is_a_yes(reply: str) -> None:
    assert agreed(reply)


@pytest.mark.parametrize(
    "reply", ["no", "No, yes.", "", "Yes and no.", "Yesterday", "It depends: yes", "是否", "不是"]
)
def test_all_else_is_not(reply: str) -> None:
    assert not agreed(reply)


@pytest.mark.parametrize(
    ("text", "finish_reason", "reason"),
    [
        ("Write an essay on rivers.", "stop", None),
        ("Write an essay.", "stop", "instruction_length"),
        ("写一篇文章。", "stop", None),
        ("word " * 500, "stop", "instruction_length"),
        ("Write an essay on rivers.", "length", "instruction_truncated"),
        ("Write an essay on rivers.\n4. Write another one.", "stop", "instruction_lines"),
        ("Write a 500-word essay on rivers.", "stop", "instruction_asks_length"),
        ("Write an essay on rivers in 2,000 words.", "stop", "instruction_asks_length"),
        ("Write an essay on the 3 longest rivers.", "stop", None),
        ("Write an ESSAY on seas!", "stop", "instruction_known"),
    ],
)
def test_what_is_a_new_instruction(text: str, finish_reason: str, reason: str | None) -> None:
    found = problem(text.strip(), finish_reason, ["Write an essay on seas."], 0.7)
    assert (found and found[0]) == reason


def row(i: str, instruction: str, text: str = "t", seed: str = "Tell a story about the sea.") -> Row:
    return Row(i + text, {"seed": seed, "instruction_id": i, "question": instruction, "text": text})


def test_of_like_instructions_one_stays_with_all_its_rows_and_seeds_are_not_repeated() -> None:
    a, b = (
        "Write a long letter to the mayor about the old bridge.",
        "Write a long letter to the mayor about the old bridge!",
    )
    rows = [
        row("2", b),
        row("1", a, "x"),
        row("1", a, "y"),
        row("3", "Tell a story about the sea"),
        row("4", "Explain how paper is made at home."),
    ]
    for mixed in (rows, rows[::-1]):
        step = cloudpickle.loads(cloudpickle.dumps(distinct(0.7)))
        found = {r.id: why and why.reason for r, why in step(lambda m=mixed: iter(m))}
        assert found == {
            "2t": "similar_instruction",
            "1x": None,
            "1y": None,
            "3t": "similar_instruction",
            "4t": None,
        }


@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.7, 1.0]))
def test_prefix_filtering_finds_what_comparing_all_pairs_finds(seed: int, limit: float) -> None:
    rng = random.Random(seed)
    texts = {(1, str(i)): " ".join(rng.choice("abc") for _ in range(rng.randint(1, 7))) for i in range(30)}
    twins, kept = {}, []
    for key in sorted(texts):
        if any(alike(grams(texts[key]), grams(texts[other])) >= limit for other in kept):
            twins[key] = True
        else:
            kept.append(key)
    assert near_duplicates(texts, limit).keys() == twins.keys()


def test_what_a_changed_instruction_keeps() -> None:
    before = "Write a letter to the mayor about the old bridge."
    assert keeps(before, "Write a letter of about 300 words to the mayor about the old bridge.")
    assert not keeps(before, "Write 300 words.") and not keeps(before, before + " word" * 40)
