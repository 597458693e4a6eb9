"""The plain question, and the turns before it."""

from typing import Any

import pytest

from pipeline.prompts import SHIPPED, Prompts
from stages.steps.asking import ask, statement


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"answer_type": "number"}, "your final answer"),
        ({"answer_type": "choice", "options": ["3", "4"]}, "the letter of the right option"),
        ({"answer_type": "boolean"}, "true or false"),
        ({}, "your final answer"),
    ],
)
def test_the_default_question_asks_for_steps_and_a_boxed_answer(more: dict[str, Any], wanted: str) -> None:
    [message] = ask(SHIPPED, {"question": "2 + 2?", **more})
    assert message["role"] == "user"
    assert message["content"].endswith(f"Please reason step by step, and put {wanted} within \\boxed{{}}.")


def test_a_statement_is_the_question_with_its_options_and_no_instruction() -> None:
    task = {"question": "2 + 2?", "options": ["3", "4"], "answer_type": "choice"}
    assert statement(SHIPPED, task) == "2 + 2?\n\n(A) 3\n(B) 4"


def test_turns_before_the_question_come_first_and_system_texts_are_one_message() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello!"},
    ]
    prompts = Prompts({"direct/solve": "[[system]]\nAnswer.\n[[user]]\n{{ question }}"})
    assert ask(prompts, {"question": "2 + 2?", "turns": turns}) == [
        {"role": "system", "content": "Be brief.\n\nAnswer."},
        *turns[1:],
        {"role": "user", "content": "2 + 2?"},
    ]
