"""The loose reader of evaluation: what a text most likely means, marked or not."""

import pytest

from stages.answers import extract, guess

OPTIONS = ["Mars", "Venus", "Earth"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 18", "18"),
        ("She makes 9 * 2 = 18 dollars.", "18"),
        ("The answer is 18. It took 3 steps.", "18"),
        ("the final answer is **18** dollars", "18 dollars"),
        ("9 * 2\n#### 18", "18"),
        ("#### 70,000", "70,000"),
        (r"so \boxed 18", "18"),
        (r"so \boxed{18 and", "18"),
        (r"so \fbox{18} in 2 ways", "18"),
        (r"x=\boxed{3} or x=\boxed{18}", "18"),
        ("Answer: 12 of 18", "18"),
        ("<think>It is 7.</think>It is 18.", "18"),
        ("no number", None),
        ("", None),
    ],
)
def test_numbers(text: str, answer: str | None) -> None:
    assert guess(text, "number") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It must be (B), as A is cold.", "B"),
        ("I choose B", "B"),
        ("The correct option is B because C is ours and (A) is cold", "B"),
        ("It is Venus, not Mars. Venus is hot", "Venus"),
        ("A planet", None),
        ("The letter Q", None),
    ],
)
def test_choices(text: str, answer: str | None) -> None:
    assert guess(text, "choice", OPTIONS) == answer


@pytest.mark.parametrize(
    ("text", "kind", "answer"),
    [
        ("I would say no. So yes it is", "boolean", "yes"),
        ("perhaps", "boolean", None),
        ("the answer is x + 1. Thus", "math", "x + 1"),
        (r"\boxed{x + 1", "math", "x + 1"),
        ("x + 1", "math", None),
        ("The answer is Paris because it is", "text", "Paris"),
        ("Paris", "text", None),
    ],
)
def test_other_types(text: str, kind: str, answer: str | None) -> None:
    assert guess(text, kind) == answer


@pytest.mark.parametrize("kind", ["number", "choice", "boolean", "math", "text"])
def test_what_is_marked_is_not_guessed_otherwise(kind: str) -> None:
    text = (
        "It is 3 (C) yes.\nAnswer: "
        + {"choice": "B", "boolean": "no"}.get(kind, "5")
        + "\nThat is 7, or A, or yes."
    )
    assert guess(text, kind, OPTIONS) == extract(text, kind, OPTIONS).answer is not None
