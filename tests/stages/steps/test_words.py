"""Words and sentences: white space where it divides, characters where nothing does."""

# ruff: noqa: RUF001

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.steps import words


@given(st.text('ab 3é\n\t\u00a0?!.,"абж한국 어مرحवह।'))
def test_with_spaces_words_are_what_white_space_divides(text: str) -> None:
    assert words.split(text) == text.split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("小明有3个苹果，他吃了1.5个。", "小 明 有 3 个 苹 果 他 吃 了 1.5 个"),
        ("リンゴが5個あります。", "リ ン ゴ が 5 個 あ り ま す"),
        ("ABC公司 and 他", "ABC 公 司 and 他"),
        ("求5!的值", "求 5! 的 值"),
        ("ที่นี่", "ที่ นี่"),
        ("「はい」と", "は い と"),
        ("사과 5개가", "사과 5개가"),
        ("。", "。"),
    ],
)
def test_scripts_without_spaces(text: str, expected: str) -> None:
    assert words.split(text) == expected.split()


@given(st.text())
def test_nothing_but_punctuation_is_lost(text: str) -> None:
    kept, there = "".join(words.split(text)), "".join(text.split())
    assert re.sub(r"[\W_]", "", kept) == re.sub(r"[\W_]", "", there)
