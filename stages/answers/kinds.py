"""One reader per answer type: from the text of an answer to a key that equal answers share."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from string import ascii_uppercase
from typing import NamedTuple

from stages.answers.marks import MAX_ANSWER_CHARS, unwrap
from stages.answers.numeric import Number, read_number


class Reading(NamedTuple):
    """An answer as read: its own text, its key ('' when there is a problem), and the problem ('' when there is none)."""

    text: str
    key: str
    problem: str


Options = Sequence[str] | None


def read(text: str, answer_type: str, options: Options = None) -> Reading:
    """Read `text` as one answer of `answer_type` (a value of Source.answer_type in the recipe). ValueError for another type."""
    if answer_type not in READERS:
        raise ValueError(f"unknown answer type {answer_type!r}; known: {', '.join(READERS)}")
    if len(text) > MAX_ANSWER_CHARS:
        return Reading(text, "", "answer_too_long")
    text = unwrap(text)
    return READERS[answer_type](text, options) if text else Reading(text, "", "empty_answer")


def text_key(text: str) -> str:
    """Return `text` NFKC-normalised, case-folded, with single spaces, without surrounding quotes and sentence punctuation."""
    text = " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())
    return " ".join(text.strip(" \"'`*_.,;:!?\u2018\u2019\u201c\u201d\u00ab\u00bb").split()) or text


def _read_number(text: str, options: Options) -> Reading:
    """By value: 50% is 0.5, 2.50 is 2.5, 1/2 is 0.5; no tolerance (1/3 is not 0.333)."""
    text, number = _after_last_equals(text)
    if isinstance(number, str):
        return Reading(text, "", number)
    return Reading(text, str(number.value / 100 if number.percent else number.value), "")


def _read_percentage(text: str, options: Options) -> Reading:
    """In percent: the type says the unit, so 50 is 50%. A bare 0.5 is half a percent; it is never guessed to mean 50%."""
    text, number = _after_last_equals(text)
    return Reading(text, "", number) if isinstance(number, str) else Reading(text, str(number.value), "")


def _after_last_equals(text: str) -> tuple[str, Number | str]:
    """Return what stands after the last "=" and its number: "18 - 9 = 9" says 9 (ReGenesis, fault 4); an inequality says none."""
    left, equals, right = text.rpartition("=")
    right = unwrap(right)
    if equals and left.rstrip()[-1:] in ("<", ">", "!"):
        return text, "not_a_number"
    return right, read_number(right) if right else "empty_answer"


def _read_text(text: str, options: Options) -> Reading:
    return Reading(text, text_key(text), "")


_PROSE = re.compile(r"(?=.*[^\W\d_]{4})[^\W\d_]+(?: [^\W\d_]+)*[.!]?")


def is_prose(text: str) -> bool:
    """Tell whether a math answer is words ("no solution"): computer algebra would read them as a product of letters."""
    return _PROSE.fullmatch(text) is not None


def _read_math(text: str, options: Options) -> Reading:
    """The key only serves to recognise equal texts: the value needs computer algebra, see compare.py."""
    return Reading(text, text_key(text) if is_prose(text) else "".join(text.split()), "")


_TRUTH_VALUES = {"true": "true", "yes": "true", "false": "false", "no": "false"}


def _read_boolean(text: str, options: Options) -> Reading:
    """The first word decides ("Yes, because ..."), unless its opposite is said as well."""
    words = re.findall(r"[^\W_]+", text.lower())
    if not words or words[0] not in _TRUTH_VALUES:
        return Reading(text, "", "not_a_boolean")
    said = {_TRUTH_VALUES[w] for w in words if w in _TRUTH_VALUES}
    return Reading(text, said.pop(), "") if len(said) == 1 else Reading(text, "", "several_candidates")


_LABEL = re.compile(
    r"(?:(?:option|choice)\s+)?(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])(?:\s*[.):\uff1a]|$))\s*", re.IGNORECASE
)
_FURTHER_LABEL = re.compile(
    r"(?:^|,|/|&|\bor\b|\band\b)\s*(?:option\s+|choice\s+)?\(?[A-Za-z]\)?(?:[.):]|\s*$)|\([B-Zb-z]\)",
    re.IGNORECASE,
)


def _read_choice(text: str, options: Options) -> Reading:
    """A letter ("A", "(A)", "A. text", "Option A") or the text of exactly one option; the key is the letter (ReGenesis, faults 1, 2)."""
    texts = [text_key(unwrap(option)) for option in _without_labels(options or [])]
    whole = _letters(text_key(text), texts)
    label = _LABEL.match(text)
    if len(whole) == 1:
        return Reading(text, whole[0], "")
    if whole or (not label and _FURTHER_LABEL.search(text)):
        return Reading(text, "", "several_candidates")
    if not label:
        return Reading(text, "", "not_a_choice")
    letter = (label[1] or label[2]).upper()
    rest = text[label.end() :]
    if texts and letter not in ascii_uppercase[: len(texts)]:
        return Reading(text, "", "unknown_option")
    said = _letters(text_key(unwrap(rest)), texts) if rest else [letter]
    if (said and letter not in said) or (rest and not said and _FURTHER_LABEL.search(rest)):
        return Reading(text, "", "several_candidates")
    return Reading(text, letter, "")


def _letters(key: str, texts: Sequence[str]) -> list[str]:
    return [letter for letter, text in zip(ascii_uppercase, texts, strict=False) if text == key]


def _without_labels(options: Sequence[str]) -> Sequence[str]:
    """Drop the letters that some data sets write into the options' texts, if every option has its own: not from "A. Smith" alone."""
    labels = [_LABEL.match(option) for option in options]
    if all(
        label and (label[1] or label[2]).upper() == letter
        for label, letter in zip(labels, ascii_uppercase, strict=False)
    ):
        return [
            option[label.end() :] or option for option, label in zip(options, labels, strict=False) if label
        ]
    return options[: len(ascii_uppercase)]


READERS: dict[str, Callable[[str, Options], Reading]] = {
    "number": _read_number,
    "fraction": _read_number,
    "percentage": _read_percentage,
    "math": _read_math,
    "choice": _read_choice,
    "boolean": _read_boolean,
    "text": _read_text,
}
