"""The end of the last whole sentence, in many scripts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.steps.sentences import split, whole_sentences


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("One. Two! Thr", "One. Two!"),
        ("One", ""),
        ("One.", "One."),
        ("He paid 3.5 and", ""),
        ('"One." Tw', '"One."'),
        ("**One.**\nTw", "**One.**"),
        ("One.\nTwo", "One."),
        ("\u5317\u4eac\u5f88\u5927\u3002\u4e0a\u6d77", "\u5317\u4eac\u5f88\u5927\u3002"),
        ("\u300c\u306f\u3044\uff01\u300d\u3068", "\u300c\u306f\u3044\uff01\u300d"),
        ("\u092f\u0939 \u0939\u0948\u0964 \u0935\u0939", "\u092f\u0939 \u0939\u0948\u0964"),
        ("\u06cc\u06c1 \u06c1\u06d2\u06d4 \u0648\u06c1", "\u06cc\u06c1 \u06c1\u06d2\u06d4"),
        ("\u0645\u0646 \u0647\u0630\u0627\u061f \u0647\u0648", "\u0645\u0646 \u0647\u0630\u0627\u061f"),
        ("\u0e09\u0e31\u0e19\u0e01\u0e34\u0e19 \u0e40\u0e02\u0e32", "\u0e09\u0e31\u0e19\u0e01\u0e34\u0e19"),
        ("\u0531\u0575\u0578\u0589 \u0548\u0579", "\u0531\u0575\u0578\u0589"),
        ("\u1793\u17c1\u17c7\u17d4 \u1782", "\u1793\u17c1\u17c7\u17d4"),
        ("", ""),
    ],
)
def test_a_text_is_cut_after_its_last_whole_sentence(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole


@given(st.text())
def test_what_is_kept_is_a_beginning(text: str) -> None:
    assert text.startswith(whole_sentences(text))


@given(st.text() | st.text("a。?\uff01 .」\n"))
def test_sentences_are_the_whole_text(text: str) -> None:
    assert "".join(split(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two? Three", ["One. ", "Two? ", "Three"]),
        ("3.5 is less. Ok", ["3.5 is less. ", "Ok"]),
        ("他来了。她走了\uff01「好。」是", ["他来了。", "她走了\uff01", "「好。」", "是"]),
        ("वह आया। वह गया।", ["वह आया। ", "वह गया।"]),
        ("", []),
    ],
)
def test_where_sentences_end(text: str, expected: list[str]) -> None:
    assert split(text) == expected
