"""Leaks of an answer into a guideline or structure: what counts, and what occurs by chance."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.methods.regenesis.leaks import leak


def task(
    answer: str | None,
    question: str = "What comes out?",
    kind: str = "number",
    options: list[str] | None = None,
) -> dict[str, Any]:
    return {"question": question, "answer": answer, "answer_type": kind, "options": options}


SUM = "State the final answer to the following arithmetic problem: 4 + 0 - 1 ="


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("Add 4 and 0 and take 1 away.", ""),
        (
            "1. Add the first two.\n2. Take the last away.\n3. State the answer.",
            "",
        ),  # 3 is the number of a list item
        ("Step 3: the answer is what is left.\nIn step 3 check it.", ""),
        ("Plan it in 3 steps, and give 3 reasons.", ""),  # by chance
        ("Check that the result is below 3 times the first number.", ""),
        ("The result must be >= 3 or != 3.", ""),
        ("4 + 0 = 4, then 4 - 1 = 3, so write it down.", "announced"),
        ("Add 4 and 0, take 1 away, and we get 3.", "announced"),
        ("to get 3 and then stop", "announced"),
        ("The final answer should be 3 apples.", "announced"),
        ("The result of all this: **3**", "announced"),
        ("Work it out.\nAnswer: 3", "marked"),
        (r"That makes \boxed{3}.", "marked"),
        ("Answer: X", ""),
        ("x = 3 + 4 - 2", ""),  # 3 is not what comes out there
        ("The answer is 4.", ""),  # another number: wrong, but no leak
        ("", ""),
    ],
)
def test_a_short_number_counts_only_where_it_is_given_as_the_answer(text: str, how: str) -> None:
    assert leak(text, task("3", SUM)) == how


@pytest.mark.parametrize(
    ("text", "question", "how"),
    [
        ("Add them up until you reach 22.", "What is 4 + 18?", "contained"),
        ("Start with the 22 apples.", "Take 0 from 22 apples.", ""),  # it stands in the question
        ("The answer is 22.", "Take 0 from 22 apples.", "announced"),
        ("Recall that x = 22.", "Given x = 22, what is x?", ""),  # the question says so itself
        ("Answer: 22", "Given x = 22, what is x?", "marked"),
        ("Look at 221, 1.22 and 22.5.", "What is 4 + 18?", ""),  # other numbers
        ("About 1,022 or 22% of it.", "What is 4 + 18?", ""),
        ("It comes to 22.0 in the end.", "What is 4 + 18?", "contained"),  # by value
    ],
)
def test_a_telling_number_counts_anywhere_but_not_if_the_question_has_it(
    text: str, question: str, how: str
) -> None:
    assert leak(text, task("22", question)) == how


@pytest.mark.parametrize(
    ("text", "asked", "how"),
    [
        ("Compare (A) with (B), then decide.", task("B", kind="choice", options=["cats", "dogs"]), ""),
        ("Think about dogs first.", task("B", kind="choice", options=["cats", "dogs"]), ""),
        ("The correct answer is (B), dogs.", task("B", kind="choice", options=["cats", "dogs"]), "announced"),
        ("The answer is either A or B.", task("B", kind="choice", options=["cats", "dogs"]), ""),
        ("Decide whether it is true or false.", task("true", kind="boolean"), ""),
        ("The conclusion is: true, because it rains.", task("true", kind="boolean"), "announced"),
        ("Find out which day it was.", task("Tuesday", kind="text"), ""),
        ("Count back to a TUESDAY.", task("Tuesday", kind="text"), "contained"),
        ("Tuesdays are no help.", task("Tuesday", kind="text"), ""),
        ("Look for his wife or sister.", task("wife", kind="text"), ""),  # a short word occurs by chance
        ("The answer is wife.", task("wife", kind="text"), "announced"),
        ("Reverse it to reyornac.", task("reyornac"), "contained"),  # no number at all: compared as text
        (r"Expand the square to x^2+2x+1.", task("x^2 + 2x + 1", "Expand (x+1)^2.", "math"), "contained"),
        (r"Here y = \frac{1}{3}, so it holds.", task("1/3", "Solve 3y = 1.", "math"), "announced"),
        ("Use a third of it, 1/3.", task("50%", kind="percentage"), ""),
        ("Half of it are 37 percent: 37%.", task("37", kind="percentage"), "contained"),
        ("The answer is 3.", task(None), ""),  # nothing to compare with
    ],
)
def test_other_types(text: str, asked: dict[str, Any], how: str) -> None:
    assert leak(text, asked) == how


@given(st.integers(min_value=101, max_value=10**9), st.integers(min_value=0, max_value=999))
def test_a_number_is_found_wherever_it_stands_unless_asked_about(n: int, other: int) -> None:
    assert leak(f"Work towards {n}, from {other} on.", task(str(n), f"What is {n - 1} + 1?")) == "contained"
    assert leak(f"Work with {n}, from {other} on.", task(str(n), f"What is {n} + 0?")) == ""


@given(st.text(alphabet=st.characters(exclude_categories=["Nd", "Nl", "No", "Cs"])), st.integers())
def test_a_text_without_digits_never_leaks_a_number(text: str, n: int) -> None:
    assert leak(text, task(str(n))) == ""


@given(st.text(), st.text(min_size=1), st.sampled_from(["number", "text", "boolean", "percentage"]))
def test_nothing_raises(text: str, answer: str, kind: str) -> None:
    assert leak(text, task(answer, kind=kind)) in ("", "marked", "announced", "contained")


@pytest.mark.parametrize(
    "text",
    [
        "the answer is " * 5000,
        "= 1 and " * 20000,
        "answer " * 20000,
        "1," * 50000,
        "total of " * 20000 + ":",
        "-" * 100000,
    ],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    began = time.process_time()
    leak(text, task("1234567", kind="number"))
    assert time.process_time() - began < 3
