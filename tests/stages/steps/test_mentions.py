# ruff: noqa: RUF001 - other scripts are what is tested
"""References to what only a prompt showed are found, and the words of a question are none."""

import time

import pytest

from stages.steps.mentions import What, mention, without_lead_in


@pytest.mark.parametrize(
    "text",
    [
        "Following the plan, we first add 3 and 4.",
        "According to the given reasoning structure, we add.",
        "Let's follow the provided plan:\n1. Add.",
        "As outlined in the plan, we add both.",
        "Step 2 of the plan: add both.",
        "As the guideline suggests, we look at the units.",
        "Using the step-by-step plan, we get 7.",
        "In line with these guidelines, the sum is 7.",
        "The plan says to add.",
        "based on the\noutline we add",
        "按照上述计划，我们先相加。",
        "As stated in the notes, we add.",
    ],
)
def test_a_plan_is_mentioned(text: str) -> None:
    assert mention("plan", text, "How much is 3 + 4?")


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("We use the structure of the equation to factor it.", "Factor x^2 - 1."),
        ("According to the plan, the garden is 4 m wide.", "The plan shows a garden. How wide is it?"),
        ("Based on the structures, it is an acid.", "Which of these structures is an acid?"),
        ("We plan to add both, following the rule of signs.", "How much is 3 + 4?"),
        ("Step 1: add both. Step 2: halve the sum.", "What is the mean of 3 and 4?"),
        ("A simple plan: add the tens, then the ones.", "How much is 13 + 24?"),
        ("Using the data provided, the guidelines are not needed.", "Do the guidelines matter?"),
        ("Using the notes of 5 euros, he pays 20.", "He has four notes of 5 euros. How much is that?"),
        ("He follows the outline of the coast.", "How far does he walk?"),
    ],
)
def test_no_plan_is_mentioned(text: str, question: str) -> None:
    assert mention("plan", text, question) == ""


@pytest.mark.parametrize(
    "text",
    [
        "Following the feedback, 20 - 5 is 15.",
        "The previous answer was wrong because it added 5.",
        "Here is the corrected solution: 20 - 5 = 15.",
        "Here is the solution with the wrong step mended: 20 - 5 = 15.",
        "I apologize for the mistake. 20 - 5 = 15.",
        "根据反馈，20 - 5 = 15。",
    ],
)
def test_feedback_is_mentioned(text: str) -> None:
    assert mention("feedback", text, "How much is 20 - 5?")


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("The original solution contains 2 l of acid.", "A solution of 10 l is 20% acid. How much is left?"),
        ("The first attempt is a throw of 3, the second one of 4.", "What is the sum of two throws?"),
        ("The feedback loop gains 3.", "What does the feedback gain?"),
        ("The first number is 3. My first step is to add 4.", "How much is 3 + 4?"),
    ],
)
def test_no_feedback_is_mentioned(text: str, question: str) -> None:
    assert mention("feedback", text, question) == ""


@pytest.mark.parametrize(
    "text",
    [
        "This matches the given answer.",
        "We are told that the answer is 15, so we work backwards.",
        "The answer was provided: 15.",
        "Since we know the answer is 15, the sum must be 15.",
        "As the hint says, it is 15.",
    ],
)
def test_a_given_answer_is_mentioned(text: str) -> None:
    assert mention("hint", text, "How much is 20 - 5?")


SOLUTION = "20 - 5 = 15.\n\nSo 15 are left:\n\\boxed{15}"


@pytest.mark.parametrize(
    ("what", "lines"),
    [
        ("feedback", "Here is the corrected solution:\n\n"),
        ("feedback", "Sure! Here's the corrected solution with all its steps:\n"),
        ("feedback", "### Corrected Solution\n\n"),
        ("feedback", "**Corrected Solution:**\n\n"),
        ("feedback", "Here's the revised answer:\n\n**Revised Answer**\n"),
        ("feedback", "Based on the feedback, this is the whole solution:\n\n"),
        ("plan", "Sure, following the plan, let's solve it:\n\n"),
        ("plan", "Using the notes provided, here is the solution:\n"),
        ("plan", "## Solution according to the plan\n"),
    ],
)
def test_a_line_that_introduces_a_solution_is_cut_off(what: What, lines: str) -> None:
    assert mention(what, lines + SOLUTION) and not mention(what, SOLUTION)
    assert without_lead_in(what, lines + SOLUTION) == SOLUTION


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Following the plan, we subtract.\n15", ""),  # a step, not a heading
        ("Here is the solution:\n15", ""),
        ("According to the plan:\n15 m", "The plan shows a garden. How wide is it?"),
        ("15\nThis follows the plan:\n15", ""),
        ("Following the plan:", ""),
        ("", ""),
    ],
)
def test_all_else_stays(text: str, question: str) -> None:
    assert without_lead_in("plan", text, question) == text


def test_what_a_task_gives_is_no_hint() -> None:
    text = "The given number is 20. We know the price is 5, so the answer is 15. The result is 15."
    assert mention("hint", text, "How much is 20 - 5?") == ""


@pytest.mark.parametrize(
    "text", ["the " * 60_000, "following the " * 20_000, "a-b " * 60_000, "the a b " * 20_000]
)
def test_it_takes_linear_time(text: str) -> None:
    start = time.process_time()
    for what in ("plan", "feedback", "hint"):
        mention(what, text, "")
    assert time.process_time() - start < 3
