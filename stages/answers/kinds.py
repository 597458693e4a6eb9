"""One reader per answer type, from the text of an answer to a key that equal answers share."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from string import ascii_uppercase
from typing import NamedTuple

from stages.answers.marks import MAX_ANSWER_CHARS, unwrap
from stages.answers.numeric import read_number

Options = Sequence[str] | None

_PROSE = re.compile(r"(?=.*[^\W\d_]{4})[^\W\d_]+(?: [^\W\d_]+)*[.!]?")
_TRUTH_VALUES = {"true": "true", "yes": "true", "false": "false", "no": "false"}
_LABEL = re.compile(
    r"(?:(?:option|choice)\s+)?(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])(?:\s*[.):\uff1a]|$))\s*", re.IGNORECASE
)
_FURTHER_LABEL = re.compile(
    r"(?:^|,|/|&|\bor\b|\band\b)\s*(?:option\s+|choice\s+)?\(?[A-Za-z]\)?(?:[.):]|\s*$)|\([B-Zb-z]\)",
    re.IGNORECASE,
)


class Reading(NamedTuple):
    """An answer's own text, with either its key or the problem with it."""

    text: str
    key: str = ""
    problem: str = ""


def read(text: str, answer_type: str, options: Options = None) -> Reading:
    """Read `text` as one answer of `answer_type`. Raises ValueError for an unknown type."""
    if answer_type not in READERS:
        raise ValueError(f"unknown answer type {answer_type!r}; known: {', '.join(READERS)}")
    if len(text) > MAX_ANSWER_CHARS:
        return Reading(text, problem="answer_too_long")
    text = unwrap(text)
    return READERS[answer_type](text, options) if text else Reading(text, problem="empty_answer")


def text_key(text: str) -> str:
    """Return `text` NFKC-normalized, case-folded and single-spaced, without outer quotes and punctuation."""
    text = " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())
    return " ".join(text.strip(" \"'`*_.,;:!?\u2018\u2019\u201c\u201d\u00ab\u00bb").split()) or text


def is_prose(text: str) -> bool:
    """Tell whether a math answer is words ("no solution"), which computer algebra would read as a product."""
    return _PROSE.fullmatch(text) is not None


def _read_number(text: str, options: Options, in_percent: bool = False) -> Reading:
    """By value and without tolerance: 50% is 0.5, 2.50 is 2.5, 1/2 is 0.5, but 1/3 is not 0.333.

    `in_percent`, 50 is 50%, and a bare 0.5 is half a percent, never a guess at 50%. Of "18 - 9 = 9" the
    number is what follows the last "="; an inequality has none.
    """
    left, equals, right = text.rpartition("=")
    if equals and left.rstrip()[-1:] in ("<", ">", "!"):
        return Reading(text, problem="not_a_number")
    text = unwrap(right)
    number = read_number(text) if text else "empty_answer"
    if isinstance(number, str):
        return Reading(text, problem=number)
    return Reading(text, str(number.value) if in_percent else number.key)


def _read_text(text: str, options: Options) -> Reading:
    return Reading(text, text_key(text))


def _read_math(text: str, options: Options) -> Reading:
    """The key only recognizes equal texts; the value takes computer algebra, see compare.py."""
    return Reading(text, text_key(text) if is_prose(text) else "".join(text.split()))


def _read_boolean(text: str, options: Options) -> Reading:
    """The first word decides ("Yes, because ..."), unless its opposite occurs as well."""
    words = re.findall(r"[^\W_]+", text.lower())
    if not words or words[0] not in _TRUTH_VALUES:
        return Reading(text, problem="not_a_boolean")
    values = {_TRUTH_VALUES[w] for w in words if w in _TRUTH_VALUES}
    return Reading(text, values.pop()) if len(values) == 1 else Reading(text, problem="several_candidates")


def _read_choice(text: str, options: Options) -> Reading:
    """A letter ("A", "(A)", "A. text", "Option A") or the text of just one option. The key is the letter."""
    texts = [text_key(unwrap(option)) for option in _without_labels(options or [])]
    whole = _letters(text_key(text), texts)
    label = _LABEL.match(text)
    if len(whole) == 1:
        return Reading(text, whole[0])
    if whole or (not label and _FURTHER_LABEL.search(text)):
        return Reading(text, problem="several_candidates")
    if not label:
        return Reading(text, problem="not_a_choice")
    letter, rest = _letter(label), text[label.end() :]
    if texts and letter not in ascii_uppercase[: len(texts)]:
        return Reading(text, problem="unknown_option")
    named = _letters(text_key(unwrap(rest)), texts) if rest else [letter]
    if (named and letter not in named) or (rest and not named and _FURTHER_LABEL.search(rest)):
        return Reading(text, problem="several_candidates")
    return Reading(text, letter)


def _letter(label: re.Match[str]) -> str:
    return (label[1] or label[2]).upper()


def _letters(key: str, texts: Sequence[str]) -> list[str]:
    return [letter for letter, text in zip(ascii_uppercase, texts, strict=False) if text == key]


def _without_labels(options: Sequence[str]) -> Sequence[str]:
    """Strip the letters some datasets put before options, unless one lacks its own (as with "A. Smith")."""
    pairs = [(option, _LABEL.match(option)) for option in options[: len(ascii_uppercase)]]
    if [label and _letter(label) for _, label in pairs] == list(ascii_uppercase[: len(pairs)]):
        return [option[label.end() :] or option for option, label in pairs if label]
    return [option for option, _ in pairs]


READERS: dict[str, Callable[[str, Options], Reading]] = {
    "number": _read_number,
    "fraction": _read_number,
    "percentage": partial(_read_number, in_percent=True),
    "math": _read_math,
    "choice": _read_choice,
    "boolean": _read_boolean,
    "text": _read_text,
}
