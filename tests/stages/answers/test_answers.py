"""Typed answers: the faults of the released ReGenesis filter by number, and what each type takes."""

import asyncio
import time

import pytest

from stages.answers import Extraction, check_truth, equal, extract, mark, normalized

CHEAP_TYPES = ["number", "fraction", "percentage", "choice", "boolean", "text"]
ALL_TYPES = [*CHEAP_TYPES, "math"]
OPTIONS = ["cats", "dogs", "a cat and a dog"]


def boxed(content: str) -> str:
    return f"We think.\n\nSo it is \\boxed{{{content}}}."


# ---- the faults of the released filter ----


def test_fault_1_answers_without_a_digit_are_read():
    assert extract(boxed("(A) cats"), "choice", OPTIONS).answer == "(A) cats"
    assert extract(boxed("True"), "boolean").answer == "True"
    assert extract(boxed("no solution"), "text").answer == "no solution"


@pytest.mark.parametrize(
    "pred",
    [
        "A",
        "(A)",
        "a",
        "A.",
        "A)",
        "A. cats",
        "(A) cats",
        "cats",
        "Cats.",
        "Option A",
        r"\text{(A)}",
        "A: cats",
    ],
)
def test_fault_2_every_form_of_a_choice_matches(pred):
    assert equal(pred, "(A) cats", "choice", OPTIONS)
    assert equal("(A) cats", pred, "choice", OPTIONS)


@pytest.mark.parametrize(
    "pred",
    [
        "B",
        "dogs",
        "A or B",
        "(A) or (B)",
        "A, B",
        "(A) dogs",
        "not (A) cats but dogs",
        "D",
        "cats and dogs",
        "A) B)",
    ],
)
def test_fault_2_a_text_that_holds_the_truth_is_not_the_truth(pred):
    assert not equal(pred, "(A) cats", "choice", OPTIONS)


def test_fault_3_only_a_final_zero_is_without_value():
    assert not equal("10.05", "105", "number")
    assert not equal("1.05", "15", "number")
    assert equal("10.0", "10", "number")


@pytest.mark.parametrize(("content", "answer"), [("18 - 9 = 9", "9"), ("x = 5 \\text{ km}", "5 \\text{ km}")])
def test_fault_4_the_number_after_the_last_equals_sign(content, answer):
    assert extract(boxed(content), "number") == Extraction(answer, "")


@pytest.mark.parametrize(
    "content", ["12 of 40", "18 or 19", "18 - 9", "1, 2, 3", "3:45", "1 080", "1,08", "5 hours 30 minutes"]
)
def test_fault_4_several_candidates_are_no_lucky_hit(content):
    assert extract(boxed(content), "number") == Extraction(None, "several_candidates")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("I got 18 from 20 and", "no_marked_answer"),
        ("", "no_marked_answer"),
        ("the answer is 20", "no_marked_answer"),
        (r"so \boxed{18 and then 20", "unbalanced_box"),
        (r"so \boxed{\frac{1}{2}", "unbalanced_box"),
        (r"so \boxed{}", "empty_answer"),
        ("20\nAnswer:", "empty_answer"),
        (r"so \fbox{18}", "no_marked_answer"),
    ],
)
def test_fault_5_no_fallback_to_the_whole_text(text, problem):
    assert extract(text, "number") == Extraction(None, problem)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("2.50", "2.5"),
        ("50%", "0.5"),
        (r"\frac12", "1/2"),
        (r"\frac{1}{2}", "0.5"),
        ("1,080", "1080"),
        ("$1,080", "1080.00"),
        ("-5", "\u22125"),
        ("1.5e3", "1500"),
        (r"1.5 \times 10^{3}", "1500"),
        ("2 1/2", "2.5"),
        ("2½", "2.5"),
        (r"\$5", "5 dollars"),
        (r"50\%", "1/2"),
        ("7 apples", "7"),
        ("5 km^2", "5"),
        ("a total of 7 apples", "7"),
        ("5 million", "5000000"),
        ("90^\\circ", "90°"),
        ("1\\,080", "1{,}080"),
        ("+3", "3."),
        ("18 - 9 = 9", "9"),
    ],
)
def test_fault_6_equal_values_match_both_ways(a, b):
    assert equal(a, b, "number")
    assert equal(b, a, "number")
    assert normalized(a, "fraction") == normalized(b, "fraction") != ""


@pytest.mark.parametrize("answer_type", ALL_TYPES)
@pytest.mark.parametrize("empty", ["", "  ", "\n", "$ $"])
def test_fault_6_an_empty_truth_is_reported_and_does_not_raise(answer_type, empty):
    assert check_truth("", answer_type) == "empty_answer"
    assert isinstance(equal("5", empty, answer_type), bool)
    assert not equal("", "", answer_type)


@pytest.mark.parametrize(
    "content", [r"\frac{1}{2}", r"\frac{\frac{1}{2}}{3}", r"\{1, 2\}", r"x^{2} + \sqrt{3}"]
)
def test_fault_10_latex_survives_extraction(content):
    assert extract(boxed(content), "text").answer == content
    assert extract(mark(content), "text").answer == content


# ---- reading numbers, percentages, truth values, texts ----


@pytest.mark.parametrize(
    "text",
    [
        "2x",
        "x2",
        "sqrt 5",
        "5!",
        "5²",
        "five",
        "minus 5",
        r"\pi",
        r"\sqrt{4}",
        "1/0",
        "1e999",
        "x <= 5",
        "5 thousand million",
    ],
)
def test_not_a_number(text):
    assert check_truth(text, "number") == "not_a_number"
    assert not equal(text, text, "number")


def test_a_percentage_is_counted_in_percent():
    assert equal("50%", "50", "percentage") and equal("50 percent", "50.0 %", "percentage")
    assert not equal("0.5", "50%", "percentage")
    assert equal("0.5", "0.5%", "percentage")


def test_no_tolerance_between_numbers():
    assert not equal("0.333", "1/3", "number")


@pytest.mark.parametrize(
    ("text", "key"), [("True", "true"), ("yes.", "true"), ("No, it does.", "false"), ("FALSE", "false")]
)
def test_booleans(text, key):
    assert normalized(text, "boolean") == key


def test_a_boolean_that_says_both_or_nothing():
    assert extract(boxed("yes or no"), "boolean").problem == "several_candidates"
    assert extract(boxed("maybe"), "boolean").problem == "not_a_boolean"


def test_text_is_compared_normalised():
    assert equal(" “New  York.” ", "new york", "text")
    assert equal("ﬁne", "FINE", "text")
    assert not equal("York", "New York", "text")


def test_choice_problems():
    assert extract(boxed("D"), "choice", OPTIONS).problem == "unknown_option"
    assert extract(boxed("birds"), "choice", OPTIONS).problem == "not_a_choice"
    assert extract(boxed("same"), "choice", ["same", "same"]).problem == "several_candidates"
    assert normalized("a cat and a dog", "choice", OPTIONS) == "C"
    assert normalized("cats", "choice", ["(A) dogs", "(B) cats"]) == "B"
    assert normalized("A. Smith", "choice", ["A. Smith", "B. Jones", "P. Brown"]) == "A"
    assert normalized("Smith", "choice", ["A. Smith", "B. Jones", "P. Brown"]) == ""


def test_an_unknown_type_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="known: number"):
        extract(boxed("5"), "numbr")


# ---- math ----


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("(x+1)^2", "x^2+2x+1"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        ("x = 5", "5"),
        (r"\dfrac{1}{2}", "$0.5$"),
        ("No solution", "no solution."),
    ],
)
def test_math_is_compared_by_value_and_has_one_key(a, b):
    assert equal(a, b, "math") and equal(b, a, "math")
    assert normalized(a, "math") == normalized(b, "math") != ""


def test_math_unequal():
    assert not equal(r"\sqrt{8}", "3", "math")
    assert not equal("0.333333", "1/3", "math")
    assert not equal("no solution", "on solution", "math")


async def test_math_off_the_main_thread_and_in_asyncio():
    assert await asyncio.to_thread(equal, "(a+b)^2", "a^2+2ab+b^2", "math")
    assert equal("(a-b)^2", "a^2-2ab+b^2", "math")


def test_math_that_never_ends_is_unequal_and_the_next_one_is_answered():
    assert not equal("9^{999999999}", "7", "math")
    assert equal("(y+1)^2", "y^2+2y+1", "math")


# ---- marks ----


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{1} or rather \boxed{2}", "2"),
        (r"\boxed{1} and \boxed{2", "1"),
        ("Answer: 1\nFinal answer: 2", "2"),
        ("**Answer:** 42", "42"),
        ("**Answer: 42**", "42"),
        ("**Final Answer**: 42\r\n", "42"),
        ("### ANSWER: 42", "42"),
        ("The answer is: 42", "42"),
        (r"Answer: $\boxed{42}$", "42"),
        (r"\boxed{41}" + "\nAnswer: 42", "42"),
        ("Answer: 41\n" + r"No: \boxed{42}", "42"),
        (r"\boxed{a = \boxed{42}}", "42"),
        (r"{ \boxed{42} \{", "42"),
        (r"\\boxed{42}", "42"),
    ],
)
def test_the_last_mark_counts(text, answer):
    assert extract(text, "number") == Extraction(answer, "")


def test_a_marker_inside_a_line_is_no_mark():
    assert extract("I give my answer: 42", "number").problem == "no_marked_answer"


def test_a_grid_keeps_its_lines():
    assert extract(mark("1 2\n3 4"), "text", lines="paragraph").answer == "1 2\n3 4"
    assert mark(" 5 ") == "Answer: 5"


HOSTILE = [
    "{" * 100_000,
    "\\boxed{" * 20_000,
    "\\" * 100_000,
    "\\boxed{" * 10_000 + "}" * 10_000,
    "Answer: " * 20_000,
    "Answer:\n" * 20_000,
    "*" * 100_000,
    " " * 100_000,
    "Answer:" + " " * 100_000,
    "Answer: " + "$" * 100_000,
    "1" * 100_000,
    "Answer: " + "1," * 2000,
    "Answer: " + "a " * 2000,
    "Answer: " + "\\frac{" * 600,
    "Answer: " + "(" * 4000,
    "\n" * 100_000,
    "answer" * 20_000,
    "Answer: " + "1" * 900 + "e300",
    "Answer: " + "or " * 1300,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_time_is_linear_on_hostile_texts(text):
    start = time.process_time()
    for answer_type in ALL_TYPES:
        extract(text, answer_type, OPTIONS)
        equal(text, text[:-1], answer_type if answer_type != "math" else "text", OPTIONS)
    assert time.process_time() - start < 3  # milliseconds in fact; seconds would be quadratic
