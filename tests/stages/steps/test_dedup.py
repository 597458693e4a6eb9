"""Exact duplicates within a stage and against earlier rounds."""

import random

import cloudpickle
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows import Row
from stages.steps.dedup import exact_duplicates, question_of


def row(row_id: str, text: str, question: str = "q") -> Row:
    return Row(row_id, {"question": question, "text": text})


def verdicts(rows: list[Row], earlier=()) -> dict[str, str]:
    step = cloudpickle.loads(cloudpickle.dumps(exact_duplicates(lambda: earlier)))
    return {r.id: verdict.reason if verdict else "kept" for r, verdict in step(lambda: iter(rows))}


def test_the_smallest_id_stays():
    assert verdicts([row("b", "x"), row("a", "x"), row("c", "y")]) == {
        "b": "duplicate",
        "a": "kept",
        "c": "kept",
    }


def test_white_space_makes_no_difference_but_the_question_does():
    assert verdicts([row("a", "x  y"), row("b", "x\ny ")]) == {"a": "kept", "b": "duplicate"}
    assert verdicts([row("a", "x"), row("b", "x", "other")]) == {"a": "kept", "b": "kept"}
    assert verdicts([row("a", "b c", "a"), row("b", "c", "a b")]) == {"a": "kept", "b": "kept"}


def test_the_options_are_part_of_the_question():
    """Two tasks with one stem: the same letter is another answer."""
    rows = [
        Row(i, {"question": "Which is a mammal?", "options": options, "text": "Answer: B"})
        for i, options in (("a", ["cod", "cat"]), ("b", ["bat", "bee"]))
    ]
    assert verdicts(rows) == {"a": "kept", "b": "kept"}
    assert verdicts(rows[:1], [(question_of(rows[1]), "Answer: B")]) == {"a": "kept"}
    assert verdicts(rows[:1], [(question_of(rows[0]), "Answer: B")]) == {"a": "duplicate"}


def test_earlier_rounds_count():
    assert verdicts([row("a", "x"), row("b", "y")], [("q", " x")]) == {"a": "duplicate", "b": "kept"}


def test_earlier_rows_are_read_when_the_step_runs():
    pairs: list[tuple[str, str]] = []
    step = exact_duplicates(lambda: pairs)
    pairs.append(("q", "x"))
    assert [verdict.detail for _, verdict in step(lambda: [row("a", "x")])] == [
        "of an answer of an earlier round"
    ]


@given(st.lists(st.sampled_from(["x", "y", " x", "z"])), st.lists(st.sampled_from(["x", "z"])), st.randoms())
def test_conservation_and_independence_of_order(texts: list[str], before: list[str], rng: random.Random):
    rows, earlier = [row(f"{i:03}", text) for i, text in enumerate(texts)], [("q", text) for text in before]
    assert list(verdicts(rows, earlier)) == [r.id for r in rows]
    assert verdicts(rows, earlier) == verdicts(rng.sample(rows, len(rows)), earlier)
    assert list(verdicts(rows, earlier).values()).count("kept") == len(
        {t.strip() for t in texts} - set(before)
    )
