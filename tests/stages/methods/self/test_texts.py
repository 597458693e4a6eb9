"""Feedback that quotes the truth it was shown, and answers without working."""

import time

import pytest

from stages.methods.self.texts import is_bare, quotes_truth

TASK = {"answer": "23", "answer_type": "number", "question": "How many?"}


@pytest.mark.parametrize(
    "text",
    [
        "This answer says 33. The right answer is 23, so it is incorrect.",
        "The correct answer is 23.",
        "The correct final answer should be **23** nuts.",
        "The answer should have been 23, not 33.",
        "It should come to 23.",
        "Step 1 is wrong. Correct answer: 23",
        "Step 1 is wrong. Correct answer:\n23",
        "Step 1 is wrong. 23 is the correct answer.",
        "The true value of it is $23$.",
        "I was told that it is wrong.",
        "According to the note, the answer is wrong.",
        "It differs from the expected answer.",
    ],
)
def test_the_truth_is_quoted(text: str) -> None:
    assert quotes_truth(f"{text}\nVerdict: incorrect", False, TASK)


@pytest.mark.parametrize(
    "text",
    [
        "Step 1: 20 - 5 is 15, but the answer has 25. This is the first wrong step.",
        "Step 2: 15 + 8 is 23, but the answer has 33. This is the first wrong step.",
        "The correct answer is less than 30.",
        "The right result of step 1 is 15.",
        "The given answer is 33, which is too much.",
        "The answer should be a number of nuts.",
        "33 is not the right answer.",
    ],
)
def test_a_step_that_is_worked_out_is_no_quotation(text: str) -> None:
    assert quotes_truth(f"{text}\nVerdict: incorrect", False, TASK) == ""


def test_an_approval_says_what_the_answer_says() -> None:
    assert quotes_truth("All steps are right, so 23 is the right answer.\nVerdict: correct", True, TASK) == ""
    assert quotes_truth("The right answer is 23, so it is correct.\nVerdict: correct", True, TASK)


def test_other_kinds_of_answers() -> None:
    choice = {"answer": "B", "answer_type": "choice", "options": ["cat", "hen"]}
    assert quotes_truth("The correct option is (B).", False, choice)
    assert quotes_truth("The correct answer is hen.", False, choice)
    assert quotes_truth("The correct answer is not (A): cats have kittens.", False, choice) == ""
    assert quotes_truth("The right answer is: Paris.", False, {"answer": "Paris", "answer_type": "text"})


@pytest.mark.parametrize(
    "text", ["the right answer is " * 20_000, "is the right answer " * 20_000, "x" * 300_000]
)
def test_it_takes_linear_time(text: str) -> None:
    start = time.process_time()
    quotes_truth(text, False, TASK)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("Answer: 13", True),
        ("\\boxed{13}", True),
        ("The final answer is \\boxed{13}.", True),
        ("13\n\nAnswer: 13", True),
        ("答案是 \\boxed{13}", True),
        ("**Answer: B**", True),
        ("7 + 6 = 13\nAnswer: 13", False),
        ("7 + 6 = \\boxed{13}", False),
        ("Seven and six are 13.\nAnswer: 13", False),
        ("A poem without a mark.", False),
    ],
)
def test_an_answer_without_working(text: str, bare: bool) -> None:
    assert is_bare(text) is bare
