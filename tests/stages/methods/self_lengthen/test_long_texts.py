"""The rules for long texts, and the parts of a text.

Self-Lengthen 1.4, 1.7, 1.8, and faults 5, 6, 7, 8 and 10.
"""

# ruff: noqa: RUF001 - Chinese punctuation is part of the rules

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.methods.self_lengthen.long_texts import (
    first_half,
    first_two_thirds,
    join,
    problem,
    repeated_run,
    repetition_rate,
    thinned,
    units,
)

TEN = "one two three four five six seven eight nine ten"
CHINESE = "春天来了，河边的柳树发了新芽。"


def reason(text: str, *more: str) -> str | None:
    found = problem(text, *more)
    return found and found[0]


@pytest.mark.parametrize("end", list(".!?\"')]}>`…”’"))
def test_texts_that_end_as_sentences_do(end: str) -> None:
    assert reason(f"A short text{end} \n") is None


@pytest.mark.parametrize("end", [*list(",;:-"), "", " and", "。"])
def test_fault_5_english_texts_that_were_cut_off(end: str) -> None:
    assert reason(f"A short text{end}") == "unfinished"


@pytest.mark.parametrize("end", list("。！？」』）】》…”’`.!?\"')"))
def test_fault_5_chinese_texts_may_end_with_either_kind_of_mark(end: str) -> None:
    assert reason(f"春天来了{end}") is None


@pytest.mark.parametrize("end", [*list("，、；：,;:-"), ""])
def test_fault_5_chinese_texts_that_were_cut_off(end: str) -> None:
    assert reason(f"春天来了{end}") == "unfinished"


@pytest.mark.parametrize(
    "text",
    [
        "\u092f\u0939 \u0939\u0948\u0964",  # Hindi
        "\u06cc\u06c1 \u06c1\u06d2\u06d4",  # Urdu
        "\u0645\u0646 \u0647\u0630\u0627\u061f",  # Arabic
        "\u0e09\u0e31\u0e19\u0e01\u0e34\u0e19\u0e02\u0e49\u0e32\u0e27",  # Thai has no mark
        "\u3053\u308c\u306f\u30c6\u30b9\u30c8\u3067\u3059\u3002",  # Japanese, mostly kana
    ],
)
def test_texts_in_other_scripts_end_with_their_own_marks(text: str) -> None:
    assert reason(text) is None
    assert reason(f"{text},") == "unfinished"


def test_a_thai_text_that_repeats_itself_is_found_and_one_with_a_frequent_word_is_not() -> None:
    """Without spaces, a whole clause would be a word, and ten of them would have to come again."""
    clause = "".join(chr(0x0E01 + 7 * i % 40) for i in range(60))
    assert reason(f"{clause} {clause}") == "repetition"
    others = (clause[i:] + clause[:i] for i in (0, 13, 29))
    assert reason(" ".join(f"{other[:20]}\u0e01\u0e23\u0e38\u0e07" for other in others)) is None


def test_fault_5_the_real_finish_reason_counts() -> None:
    assert reason("A whole sentence.", "", "length") == "truncated"
    assert reason("  \n ", "", "stop") == "empty_text"


@pytest.mark.parametrize(
    "text",
    ["| a | b |\n| --- | --- |\n| 1 | 2 |\n\nDone.", "Part one.\n\n---\n\nPart two.", "One.\n\n\n\nTwo."],
)
def test_fault_6_rules_and_tables_are_texts(text: str) -> None:
    assert problem(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Here is the revised version:\n\nThe sea is wide.",
        "Here's an expanded response to it.\nThe sea is wide.",
        "The sea is wide.\n\nI have added details in this revised version.",
        "THIS IS THE EXTENDED VERSION\nThe sea is wide.",
        "The sea is wide.\nThe above paragraph says more.",
        "**Revised version:**\n\nThe sea is wide.",
        "Revised Response:\nThe sea is wide.",
        "# Expanded version of the outline\n\nThe sea is wide.",
        "Here is the expanded text:\n\nThe sea is wide.",
        "Sure! Here is a longer text:\n\nThe sea is wide.",
    ],
)
def test_chatter_about_the_text_itself(text: str) -> None:
    assert reason(text) == "chatter"


@pytest.mark.parametrize(
    "text",
    [
        "The immune response begins within hours.\nIt lasts for days.",
        "Her version of events was another.\n\nThe judge wrote a paragraph on it.",
        "Response times matter.",
        "A revision of the treaty followed.",
        "Dear Sir,\nI have not received a response to my letter.",
        "This is a natural response to stress.",
        "The body is at war.\nThis is the immune response at work.",
        "Extended text messages were new in 1999, and nobody knew what to do with so much room for words.",
    ],
)
def test_fault_10_an_essay_may_speak_of_responses_and_versions(text: str) -> None:
    assert problem(text) is None


def test_fault_10_what_the_instruction_speaks_of_is_no_chatter_and_the_middle_is_not_searched() -> None:
    text = "This is the final version of the contract.\nIt holds."
    assert reason(text) == "chatter" and problem(text, "Compare both versions of the contract.") is None
    middle = "\n".join(["a.", "b.", "Here is the revised version.", "c.", "d.", "e."])
    assert problem(middle) is None


def test_repeated_runs() -> None:
    assert reason(f"{TEN}. Then {TEN}.") == "repetition" and repeated_run(f"{TEN} x {TEN}") == TEN
    nine = TEN.removesuffix(" ten")
    assert problem(f"{nine} a. {nine} b.") is None
    assert reason("a " * 11 + ".") == "repetition", "overlapping runs count"


def test_repeated_runs_in_chinese_are_of_13_units() -> None:
    assert len(units("他说 hello world，好。")) == 6
    assert len(CHINESE) == 15
    assert reason(CHINESE[:13] + "甲。" + CHINESE[:13] + "。") == "repetition"
    assert problem(CHINESE[:12] + "甲。" + CHINESE[:12] + "乙。") is None


def test_the_rate_of_repetition() -> None:
    assert repetition_rate(TEN) == 0 == repetition_rate("short")
    assert repetition_rate(f"{TEN} " * 2) == pytest.approx(1 / 11)
    assert repetition_rate(f"{TEN} " * 10) == pytest.approx(81 / 91)


def test_fault_7_halves_and_thirds_are_never_empty() -> None:
    assert first_half("a line") == "a line" == first_two_thirds("a line")
    assert first_half("a\n\nb\n\nc\n\nd\n\ne") == "a\n\nb"
    assert first_half("a\nb\nc\nd") == "a\n\nb" and first_half("a\nb\n\nc\nd") == "a\n\nb", (
        "two paragraphs are split by lines"
    )
    assert first_two_thirds("a\n\nb\n\nc") == "a\n\nb" and first_two_thirds("a\n\nb") == "a"
    assert first_two_thirds("a\n\nb\n\nc", "length") == "a\n\nb", "what was cut off goes with the last third"
    assert first_two_thirds("cut of", "length") == "" == first_two_thirds(" \n ")


@given(st.text("ab \n", max_size=30).filter(str.strip), st.text("ab \n", max_size=30).filter(str.strip))
def test_fault_7_stages_are_joined_by_one_blank_line(a: str, b: str) -> None:
    assert join(a, b) == f"{a.rstrip()}\n\n{b.strip()}"
    assert join(f"{a.rstrip()}\n\n", f"\n\n{b.strip()}") == join(a, b)


@given(
    st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=12),
    st.lists(st.sampled_from(["\n", "\n\n"]), min_size=12, max_size=12),
    st.integers(0, 2**63 - 1),
)
def test_fault_8_thinning_drops_lines_and_keeps_the_form(lines: list[str], gaps: list[str], key: int) -> None:
    text = "".join(line + gap for line, gap in zip(lines, gaps, strict=False)).strip()
    thin = thinned(text, 0.2, key)
    left = re.split(r"\n+", thin)
    rest = iter(lines)
    assert left and all(line in rest for line in left), "a subsequence of the lines"
    assert "\n\n\n" not in thin and thin == thin.strip() and thin == thinned(text, 0.2, key)
    assert thinned(text, 0, key) == text


def test_thinning_drops_the_share_it_is_told() -> None:
    text = "\n".join(f"line {i}" for i in range(5000))
    assert len(thinned(text, 0.2, 0).splitlines()) / 5000 == pytest.approx(0.8, abs=0.02)
