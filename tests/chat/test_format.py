"""Dividing answers into thought and text, and putting them together again for training."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chat import PLAIN, UNFINISHED, Chat
from pipeline.chat.format import hidden_tokens
from pipeline.engines.base import Completion
from pipeline.thoughts import TAGS

TRAIN, KEEP, STRIP = (Chat(thinking=policy) for policy in ("train", "keep", "strip"))


def completion(text: str, finish: str = "stop", thought: str | None = None) -> Completion:
    return Completion(text, finish, 3, 5, thought=thought)


def example(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("chat", [PLAIN, TRAIN, KEEP, STRIP])
def test_an_answer_without_thoughts_is_the_same_object(chat: Chat) -> None:
    answer = completion(" 3 < 4, [think]\n")
    assert chat.divided(answer) is answer


@given(thought=st.text("ab \n", min_size=1), gap=st.text(" \n", max_size=3), text=st.text("xy \n<>"))
def test_what_is_trained_is_what_was_written(thought: str, gap: str, text: str) -> None:
    if not thought.strip() or not text.strip():
        return
    written = f"<think>{thought}</think>{gap}{text}"
    for chat in (PLAIN, TRAIN):
        made = chat.divided(completion(written))
        assert made.text == text.strip() and made.finish_reason == "stop"
        [trained] = chat.completion(example(made.text), {"text": made.text, "thought": made.thought})
        assert trained["content"].rstrip() == written.rstrip()


@pytest.mark.parametrize(("begin", "end"), TAGS)
def test_tags_of_others_become_the_template_s_own(begin: str, end: str) -> None:
    made = TRAIN.divided(completion(f"{begin}\nThree.\n{end}\n\nAnswer: 3"))
    assert (made.thought, made.text) == ("<think>\nThree.\n</think>\n\n", "Answer: 3")
    made = TRAIN.divided(completion(f"Three.{end}Answer: 3"))  # begun in the prompt
    assert (made.thought, made.text) == ("<think>\nThree.\n</think>\n\n", "Answer: 3")


@pytest.mark.parametrize(("chat", "kept"), [(TRAIN, True), (KEEP, True), (STRIP, False), (PLAIN, False)])
def test_what_an_endpoint_sends_apart(chat: Chat, kept: bool) -> None:
    made = chat.divided(completion("Answer: 3", thought="Three."))
    assert (made.text, made.thought) == ("Answer: 3", "<think>\nThree.\n</think>\n\n" if kept else None)


@pytest.mark.parametrize("chat", [PLAIN, TRAIN, KEEP, STRIP])
@pytest.mark.parametrize("text", ["<think>\nSo Answer: 3", "<think>a</think><think>Answer: 3"])
def test_an_unfinished_thought_is_no_answer(chat: Chat, text: str) -> None:
    made = chat.divided(completion(text, "length"))
    assert (made.text, made.thought, made.finish_reason) == ("", None, UNFINISHED)


def test_an_endpoint_whose_tokens_all_went_into_the_thought() -> None:
    assert TRAIN.divided(completion("", "length", "So")).finish_reason == UNFINISHED


def test_a_plain_model_may_write_about_tags() -> None:
    answer = completion("The tag <think> opens a thought.")
    assert PLAIN.divided(answer) is answer
    assert TRAIN.divided(answer).finish_reason == UNFINISHED


def test_an_empty_thought_is_none() -> None:
    made = TRAIN.divided(completion("<think>\n\n</think>\n\nAnswer: 3"))
    assert (made.text, made.thought) == ("Answer: 3", None)


def test_only_the_answer_that_was_thought_about_gets_the_thought() -> None:
    row: dict[str, Any] = {"text": "Answer: 3", "thought": "<think>a</think>"}
    other = [{"role": "user", "content": "Answer: 3"}, *example("Right?")]
    assert TRAIN.completion(other, row) == other
    assert TRAIN.completion(example("Answer: 3"), row) == example("<think>a</think>Answer: 3")


@pytest.mark.parametrize("chat", [KEEP, STRIP])
def test_no_thought_is_trained_unless_it_is_to_be_not_even_a_demonstration_s(chat: Chat) -> None:
    row = {"text": "Answer: 3", "thought": "<think>a</think>"}
    assert chat.completion(example("Answer: 3"), row) == example("Answer: 3")
    assert chat.completion(example("<think>b</think>\nAnswer: 3"), row) == example("Answer: 3")


def test_an_endpoint_s_thoughts_are_stored_and_the_trained_model_s_template_settles_what_is_trained() -> None:
    unsettled, own = Chat(thinking="unsettled"), Chat(thinking="train", tags=("[THINK]", "[/THINK]"))
    apart = unsettled.divided(completion("Answer: 3", thought="Three."))
    inline = unsettled.divided(completion("<thinking>Three.</thinking>\n\nAnswer: 3"))
    assert (apart.thought, inline.thought) == ("Three.", "<thinking>Three.</thinking>\n\n")
    tagged = example("[THINK]\nThree.\n[/THINK]\n\nAnswer: 3")
    for made, as_it_came in ((apart, "Answer: 3"), (inline, "<thinking>Three.</thinking>\n\nAnswer: 3")):
        row = {"text": made.text, "thought": made.thought}
        assert own.completion(example("Answer: 3"), row) == tagged
        assert PLAIN.completion(example("Answer: 3"), row) == example(as_it_came)
        assert STRIP.completion(example("Answer: 3"), row) == example("Answer: 3")


def test_special_tokens_are_hidden_but_for_those_of_thoughts() -> None:
    text = "<|channel|>analysis<|message|>So.<|end|><|start|>assistant<|channel|>final<|message|>3<|return|>"
    names = ["<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|return|>"]
    made = TRAIN.divided(completion(hidden_tokens(names).sub("", text)))
    assert (made.thought, made.text) == ("<think>\nSo.\n</think>\n\n", "3")
    assert hidden_tokens([]).sub("", text) == text


def test_a_plain_model_has_no_digest_and_any_other_has_one() -> None:
    assert PLAIN.digest == "" and Chat() == PLAIN
    changed = [replace(PLAIN, stop=(2,)), replace(PLAIN, template="x"), TRAIN, KEEP, STRIP]
    assert len({chat.digest for chat in changed} | {""}) == len(changed) + 1
