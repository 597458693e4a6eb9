"""Dividing a thinking model's text into thought and answer."""

import pytest

from pipeline import thoughts
from pipeline.thoughts import TAGS, split


@pytest.mark.parametrize(("start", "end"), TAGS)
def test_every_kind_of_tag_is_divided(start: str, end: str) -> None:
    assert split(f"{start}\n2 + 2\n{end}\nAnswer: 4") == (f"{start}\n2 + 2\n{end}", "\nAnswer: 4")


@pytest.mark.parametrize(("start", "end"), TAGS)
def test_a_thought_that_the_prompt_opened_ends_at_its_closing_tag(start: str, end: str) -> None:
    assert thoughts.without(f"Answer: 3? No.{end}\n\nAnswer: 4") == "Answer: 4"


@pytest.mark.parametrize(("start", "end"), TAGS)
def test_a_thought_that_was_cut_off_leaves_no_answer(start: str, end: str) -> None:
    assert split(f"{start}So Answer: 4") == (f"{start}So Answer: 4", "")


def test_several_thoughts_are_taken_out() -> None:
    text = "<think>a</think>Let me check. <think>b</think>Answer: 4<think>c"
    assert split(text) == ("<think>a</think><think>b</think><think>c", "Let me check. Answer: 4")


def test_other_text_stays_as_it_is() -> None:
    assert split(" x < think, [think] and 3 > 2 \n") == ("", " x < think, [think] and 3 > 2 \n")
