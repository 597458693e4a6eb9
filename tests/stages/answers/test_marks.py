"""Finding the marked answer in what models write, and marking one so that it is found."""

import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from stages.answers import Extraction, equal, extract, lines_of, mark, normalized, on_a_line
from stages.answers.marks import unwrap

UNSEEN = ("\u200b", "\u200f", "\u202a", "\ufeff", "\u2060", "\u00ad")

READ_AS_42 = [
    # markup around mark and value
    "✅ Final Answer: **42**",
    "*Answer: 42*",
    "Answer: *42*",
    "_Answer: 42_",
    "Answer: _42_",
    "__Answer:__ 42",
    "***Answer: 42***",
    "** Answer: 42 **",
    "**Answer**: 42",
    "* **Answer:** 42",
    "### **Answer: 42**",
    "**Answer: 42** (since 6*7=42)",
    "**Answer:** `42`",
    "`Answer: 42`",
    "~~Answer: 42~~",
    "(Answer: 42)",
    "[Answer: 42]",
    '"Answer: 42"',
    "\u201cAnswer: 42\u201d",
    "\u300cAnswer: 42\u300d",
    'Answer: "42"',
    "Answer: \u201c42\u201d",
    "Answer: [42]",
    "<b>Answer:</b> 42",
    "<b>Answer: 42</b>",
    "<p><strong>Answer</strong>: 42</p>",
    "Answer: <strong>42</strong>",
    "\\textbf{Answer:} 42",
    "\\textbf{Answer: 42}",
    "$\\textbf{Answer: } 42$",
    "\\[\\text{Final Answer: } 42\\]",
    "Answer: **42**.",
    "Answer: $42$.",
    "Answer: \\textbf{42}",
    "Answer: 42 ✅",
    "🎉 Answer: 42 🎉",
    "Answer: **42** dollars",
    "Answer:: 42",
    'Answer: "42".',
    "Answer: 42<end_of_turn>",
    "Answer: 42 [/INST]",
    "\u2192 Answer: 42",
    # lists, quotations, tables, headings, lead-ins
    "1. Answer: 42",
    "(2) Answer: 42",
    "- Answer: 42",
    "• Answer: 42",
    "> Answer: 42",
    "> **Answer:** 42",
    "| Answer | 42 |",
    "| **Answer** | **42** |",
    "| Answer: 42 |",
    "## Answer: 42",
    "So the answer is: 42",
    "Therefore, the final answer is: **42**",
    "Step 5: Answer: 42",
    "My final answer: 42",
    "The correct answer is: 42",
    "Answer (in dollars): 42",
    "ANSWER : 42",
    "Answer:\t42",
    # below the mark
    "### Answer:\n42",
    "### Answer:\n\n42",
    "**Answer:**\n\n42",
    "**Final Answer**\n\n42",
    "## Final Answer\n42",
    "**Final Answer**\n\\[\n\\boxed{42}\n\\]",
    "**Answer:\n42**",
    "Answer:\r\n\r\n42\r\n",
    "Answer:\n- 42",
    "Answer:\n> **42**",
    "Answer:\n```\n42\n```",
    "Answer:\n```text\n42\n```\nThat is all.",
    "Answer: $$\n42\n$$",
    "Answer:\n$$42$$",
    "Answer:\n\\[ 42 \\]",
    "**Answer:** $42$\n\n**Explanation:** 6 * 7",
    "Answer:\n42\nI hope this helps",
    # tags, special tokens, set phrases, what cannot be seen, full-width forms
    "<answer>42</answer>",
    "<think>It is 41.</think><answer>\n42\n</answer>",
    "<answer>Answer: 42</answer>",
    "<answer>\\boxed{42}</answer>",
    "<answer>42",
    "Answer: 42<|im_end|>",
    "Answer: 42</s>",
    "Final Answer: The final answer is $42$. I hope it is correct.",
    "Final Answer: **The final answer is 42**",
    "Answer\uff1a42",
    "\uff21\uff4e\uff53\uff57\uff45\uff52\uff1a 42",
    "\U0001d400\U0001d427\U0001d42c\U0001d430\U0001d41e\U0001d42b: 42",
    *(f"{c}Answer:{c} {c}42{c}" for c in UNSEEN),
    *(f"**{c}Answer:{c}** 42{c}" for c in UNSEEN),
    # a placeholder, or nothing, is no answer
    "\\boxed{42}. Answer: X",
    "\\boxed{42}\nAnswer: X",
    "Answer: 42\nAnswer: [number]",
    "Answer: 42\nAnswer: <your answer>",
    "Answer: 42\n\nAnswer:",
    "\\boxed{42}\n\nAnswer: \\boxed{}",
    # the same twice
    "\\boxed{42} and \\boxed{42}",
    "x = \\boxed{42}, that is, \\boxed{42.0}",
    "\\boxed{3}. No, it is \\boxed{42}",
    "First \\boxed{3}.\n\nThen \\boxed{42}",
    "Answer: 41</think>\nAnswer: 42",
    "<think>Answer: 41</think>\nAnswer: 42",
]


@pytest.mark.parametrize("text", READ_AS_42)
def test_a_mark_in_any_usual_markup(text: str) -> None:
    answer, problem = extract(text, "number")
    assert problem == "" and equal(answer or "", "42", "number")
    assert extract(f"We think.\n\n{text}", "number").answer == answer


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (r"x=\boxed{3} or x=\boxed{5}", "several_candidates"),
        (r"$x=\boxed{3}$ or $x=\boxed{5}$", "several_candidates"),
        (r"\boxed{3}, \boxed{5}", "several_candidates"),
        ("\\boxed{3} or\n\\boxed{5}", "several_candidates"),
        (r"Answer: x=\boxed{3} and y=\boxed{5}", "several_candidates"),
        (r"Answer: \boxed{18} or 5", "several_candidates"),
        (r"Answer: 18 or \boxed{5}", "several_candidates"),
        ("Answer: x = 18 or x = 5", "several_candidates"),
        ("Answer: x = 18, y = 5", "several_candidates"),
        ("Answer: 18 or x = 5", "several_candidates"),
        ("Answer: $18$ or $5$", "several_candidates"),
        ("**Answer: 5** or 18", "several_candidates"),
        ("Answer: X", "not_a_number"),
        ("<think>Answer: 5</think>It is so.", "no_marked_answer"),
        ("<think>Answer: 5", "no_marked_answer"),
        ("[THINK]\\boxed{5}[/THINK]", "no_marked_answer"),
        ("I give my answer: 5", "no_marked_answer"),
        ("Answer\n5", "no_marked_answer"),
        ("the answer is 5", "no_marked_answer"),
        ("| Answers | 5 |", "no_marked_answer"),
        ("Answer:\n\n", "empty_answer"),
        ("**Answer:**", "empty_answer"),
        ("Answer:\nFirst we add up all the eggs that Janet has.\nThere are 5", "empty_answer"),
    ],
)
def test_what_must_not_pass_for_5(text: str, problem: str) -> None:
    assert extract(text, "number") == Extraction(None, problem)


def test_several_solutions_of_an_equation_are_one_answer_in_mathematics() -> None:
    assert extract("Answer: x = 1 or x = 2", "math").answer == "x = 1 or x = 2"
    assert extract(r"\boxed{x = 1 \text{ or } x = 2}", "math").problem == ""
    assert extract(r"\boxed{1} or \boxed{2}", "math").problem == "several_candidates"
    assert extract(r"\boxed{\frac12} or 0.5", "math").problem == ""


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: **Paris**", "Paris"),
        ("*Answer: Paris*", "Paris"),
        ("Answer: \\text{Paris}.", "Paris"),
        ("Final Answer: The final answer is Paris. I hope it is correct.", "Paris."),
        ("Answer: (3, 5]", "(3, 5]"),
        ("Answer: [1, 2]", "[1, 2]"),
        ("Answer: 你好\uff0c世界", "你好\uff0c世界"),
        ("Answer: snake_case_name", "snake_case_name"),
        ("Answer: 2 * 3 * 4", "2 * 3 * 4"),
        ("Answer: Bob's", "Bob's"),
        ("Answer: f(x) = (x)", "f(x) = (x)"),
        ("(Answer: f(x))", "f(x)"),
        ("Answer: a | b", "a | b"),
        ("Answer: \\mathbb{R}", "\\mathbb{R}"),
        ("Answer: a\u200cb", "a\u200cb"),
    ],
)
def test_a_text_loses_its_markup_and_nothing_else(text: str, answer: str) -> None:
    assert extract(text, "text") == Extraction(answer, "")


# ---- words of other languages ----

WORDS = ["答案", "Respuesta", "Final answer", "R\u00e9ponse"]


@pytest.mark.parametrize(
    "text",
    [
        "答案\uff1a42",
        "**答案\uff1a** 42",
        "答案是\uff1a42",
        "### 答案\n42",
        "答案:\n\n42",
        "Respuesta: 42",
        "**Respuesta:** *42*",
        "RESPUESTA : 42",
        "R\u00e9ponse : 42",
        "Re\u0301ponse : 42",
        "final answer: 42",
        "\\boxed{42}",
    ],
)
def test_the_words_of_the_mark_can_be_set(text: str) -> None:
    assert equal(extract(text, "number", marks=WORDS).answer or "", "42", "number")


def test_words_that_are_not_set_mark_nothing() -> None:
    assert extract("Answer: 42", "number", marks=WORDS).problem == "no_marked_answer"
    assert extract("答案: 42", "number").problem == "no_marked_answer"
    assert extract("La respuesta corta: 42", "number", marks=WORDS).problem == "no_marked_answer"
    assert mark("42", WORDS) == "答案: 42"
    assert on_a_line("答案: 42", WORDS) and not on_a_line("Answer: 42", WORDS)


# ---- several lines ----


def test_a_grid_is_read_where_the_task_wants_one() -> None:
    grid = "1 2\n3 4"
    assert mark(grid) == "Answer:\n1 2\n3 4"
    assert extract(mark(grid), "text", lines=lines_of(grid)).answer == grid
    for text in (
        f"Answer: {grid}",
        f"**Answer:**\n\n{grid}\n\nDone.",
        f"Answer:\n```\n{grid}\n```",
        f"\\boxed{{{grid}}}",
    ):
        assert extract(text, "text", lines="paragraph").answer == grid
    assert extract(f"Answer: {grid}", "text").answer == "1 2"


def test_blank_lines_within_a_grid_are_kept_where_the_truth_has_some() -> None:
    spaced = "1 < 2\n   \n2   1"
    assert lines_of(spaced) == "rest" and lines_of("1") == lines_of(None) == "one"
    assert extract(mark(spaced), "text", lines="rest").answer == spaced


# ---- properties ----

MARKUP = [
    "{}",
    "**{}**",
    "> {}",
    "- {}",
    "1. {}",
    "### {}",
    "✅ {}",
    "({})",
    "`{}`",
    "<b>{}</b>",
    "\u200b{}",
    "_{}_",
]
inner = st.text(st.sampled_from("abcXYZ019 é中+-=,.%"), min_size=1, max_size=20).filter(
    lambda t: t.strip(" .,")
)
typed = st.one_of(
    st.tuples(st.just("number"), st.integers().map(str)),
    st.tuples(
        st.just("number"),
        st.decimals(allow_nan=False, allow_infinity=False, places=3).map(lambda d: f"{d:f}"),
    ),
    st.tuples(st.just("choice"), st.sampled_from(["A", "(B)", "C. dogs", "cats"])),
    st.tuples(st.just("boolean"), st.sampled_from(["yes", "No", "TRUE", "false"])),
    st.tuples(st.just("text"), inner),
)


@given(
    typed,
    st.sampled_from(MARKUP),
    st.sampled_from(["", "<think>Answer: 7</think>\n", "Answer: 8\n\n", "Well.\n"]),
)
def test_what_is_marked_is_read_back_in_any_markup_and_behind_a_thought(
    answer: tuple[str, str], markup: str, before: str
) -> None:
    kind, text = answer
    options = ["red", "cats", "dogs"]
    read, problem = extract(before + markup.format(mark(text)), kind, options)
    assert problem == "" and normalized(read or "", kind, options) == normalized(text, kind, options) != ""


@given(st.text(max_size=40))
@example("The answer is blowing in the wind")
@example("X")
@example("*")
@example("I hope it is correct")
@example("$5$ or $6$")
def test_any_answer_is_read_back(answer: str) -> None:
    bare = unwrap(answer)
    assume(bare and "\\" not in answer and bare.count("{") == bare.count("}") == 0)
    read = extract(mark(answer), "text", lines=lines_of(answer)).answer
    assert read is not None and equal(read, bare, "text")


TEXTS = {
    "thoughts": "<think>" * 14_000,
    "closed thoughts": "<think>" * 7_000 + "</think>" * 6_000,
    "marks": "Answer:\n" * 12_500,
    "placeholders": "Answer: X\n" * 10_000,
    "boxes": "\\boxed{1} or " * 8_000,
    "tags": "<answer>" * 12_000,
    "brackets": "(" * 50_000 + "Answer: " + ")" * 50_000,
    "quotes": '"' * 100_000 + "Answer: 5",
    "fences": "Answer:\n```\n" * 8_000,
    "lead-ins": "so the final answer is " * 4_500,
    "commands": "\\text{" * 16_000,
    "unseen": "\u200b" * 100_000,
    "cells": "| Answer " * 12_000,
    "prose": "We compute 3 + 4 = 7, and (B) is not true. The answer is 7.\n" * 1_700 + "Answer: 7",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_long_text_takes_milliseconds(text: str) -> None:
    start = time.process_time()
    extract(text, "number")
    assert time.process_time() - start < 1  # some 0.01 to 0.1 s; what is quadratic takes many
