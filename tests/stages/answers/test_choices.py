"""Choices among options and truth values, as models write them."""

import pytest

from stages.answers import Extraction, extract, normalized

OPTIONS = ["Mars", "Venus", "Earth", "Pluto"]
NUMBERED = ["1. red", "2. green", "3. 2"]


def choice(text: str, options: list[str] | None = OPTIONS) -> str:
    """Return the letter that is read after a mark, or the problem."""
    answer, problem = extract(f"Answer: {text}", "choice", options)
    return problem if answer is None else normalized(answer, "choice", options)


@pytest.mark.parametrize(
    "text",
    [
        "B", "b", "(b)", "B.", "B)", "B:", "B\u3002", "[B]", "{B}", "<B>", "\u3010B\u3011", "\uff22",
        "\uff08B\uff09", "$B$", "`B`", '"B"', "B ✅", "\\text{B}", "\\textbf{(B)}", "**B**", "<b>B</b>",
        "Venus", "venus.", "Option B", "choice (B)", "LETTER B", "B. Venus", "(B) Venus.", "B - Venus",
        "B \u2013 Venus", "B: Venus", "B (Venus)", "B Venus", "Venus (B)", "**B** - Venus",
        "\\text{B}. Venus", "B because it is hot", "B, since it is hot", "B is correct",
        "Option B is correct", "B is the correct answer", "The correct option is B", "The answer is B.",
        "The correct answer is (B) Venus", "The answer is Venus", "It is B", "B!", "B = Venus",
        "B \u2192 Venus", "$\\text{(B)}$ Venus", "It is option B.", "So the right choice is: B",
    ],
)  # fmt: skip
def test_every_form_of_b(text: str) -> None:
    assert choice(text) == "B"
    assert extract(f"\\boxed{{{text}}}", "choice", OPTIONS).problem == "" or "<" in text or "{" in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("E", "unknown_option"),
        ("(E) Jupiter", "unknown_option"),
        ("E because it is far", "unknown_option"),
        ("The correct option is Z", "unknown_option"),
        ("B or C", "several_candidates"),
        ("A, B", "several_candidates"),
        ("(A) Venus", "several_candidates"),
        ("A - Venus", "several_candidates"),
        ("B is correct, or C", "several_candidates"),
        ("not B", "not_a_choice"),
        ("B is not correct", "not_a_choice"),
        ("I think so", "not_a_choice"),
        ("A planet", "not_a_choice"),
        ("A Venus", "not_a_choice"),
        ("Jupiter", "not_a_choice"),
        ("2", "not_a_choice"),
        ("(2)", "not_a_choice"),
        ("none of them", "not_a_choice"),
    ],
)
def test_what_is_no_single_choice(text: str, problem: str) -> None:
    assert choice(text) == problem


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("1", "A"),
        ("(2)", "B"),
        ("2. green", "B"),
        ("Option 1", "A"),
        ("green", "B"),
        ("B", "B"),
        ("4", "unknown_option"),
        ("2", "several_candidates"),  # the label of one option, the text of another
        ("1. green", "several_candidates"),
    ],
)
def test_numbers_are_labels_where_the_options_are_numbered(text: str, letter: str) -> None:
    assert choice(text, NUMBERED) == letter


def test_without_options_any_letter_is_read() -> None:
    assert choice("(H) because", None) == "H"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It is true.", "true"),
        ("It's false", "false"),
        ("It\u2019s false", "false"),
        ("That is true, since 2 < 3", "true"),
        ("The statement is false.", "false"),
        ("The answer is yes", "true"),
        ("So the final answer is: no", "false"),
        ("**Yes**, because", "true"),
        ("Yes\u3002", "true"),
        ("\u300cTrue\u300d", "true"),
        ("\uff34\uff52\uff55\uff45", "true"),
        ('"No"', "false"),
        ("[true]", "true"),
        ("TRUE ✅", "true"),
        ("not true", "not_a_boolean"),
        ("It is not true", "not_a_boolean"),
        ("untrue", "not_a_boolean"),
        ("maybe", "not_a_boolean"),
        ("Yes and no", "several_candidates"),
        ("True/False", "several_candidates"),
    ],
)
def test_truth_values(text: str, value: str) -> None:
    answer, problem = extract(f"Answer: {text}", "boolean")
    assert (problem or normalized(answer or "", "boolean")) == value


def test_an_or_beside_a_box_counts_where_it_offers_another_option() -> None:
    assert extract(r"\boxed{A} or (C)", "choice", OPTIONS).problem == "several_candidates"
    assert extract(r"Whether hot or not, it is \boxed{B}", "choice", OPTIONS) == Extraction("B", "")
