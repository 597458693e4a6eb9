"""One reader per answer type, from the text of an answer to a key that equal answers share."""

import re
import unicodedata
from collections.abc import Callable
from functools import partial

from stages.answers.choices import read_boolean, read_choice, text_key
from stages.answers.markup import MAX_ANSWER_CHARS, unwrap, without_unseen
from stages.answers.numeric import read_number
from stages.answers.reading import Options, Reading

__all__ = ["READERS", "Options", "Reading", "is_prose", "read", "text_key"]

NUMERIC = ("number", "fraction", "percentage")
_PROSE = re.compile(r"(?=.*[^\W\d_]{4})[^\W\d_]+(?: [^\W\d_]+)*[.!]?")
_PAIRS = (
    '""',
    "''",
    "\u201c\u201d",
    "\u2018\u2019",
    "\u00ab\u00bb",
    "\u300c\u300d",
    "[]",
)  # mean nothing here
# "x = 18 or x = 2", "x = 18, y = 2", "18 or x = 2": what follows the last "=" is one of several.
_SEVERAL_EQUATIONS = re.compile(
    r"=[^=]*[0-9][^=]*(?:[,;]\s|\b(?:or|and)\b|\u6216|\u548c)[^=]*=|[0-9][^=]*(?:\bor\b|\u6216)[^=]*=",
    re.IGNORECASE,
)


def read(text: str, answer_type: str, options: Options = None) -> Reading:
    """Read `text` as one answer of `answer_type`. Raises ValueError for an unknown type."""
    if answer_type not in READERS:
        raise ValueError(f"unknown answer type {answer_type!r}; known: {', '.join(READERS)}")
    if len(text) > MAX_ANSWER_CHARS:
        return Reading(text, problem="answer_too_long")
    text = unwrap(text)
    if answer_type not in ("text", "math"):
        text = _bare(text)
    if answer_type in NUMERIC and _SEVERAL_EQUATIONS.search(text):
        return Reading(text, problem="several_candidates")
    return READERS[answer_type](text, options) if text else Reading(text, problem="empty_answer")


def _bare(text: str) -> str:
    """Take off quotes, square brackets and pictograms around an answer in which they mean nothing."""
    before = None
    while text != before:
        before, text = text, unwrap(without_unseen(text))
        while text and unicodedata.category(text[-1]) in ("So", "Sk", "Mn"):
            text = text[:-1].rstrip()
        for left, right in _PAIRS:
            inner = text[1:-1]
            if inner.strip() and text == left + inner + right and left not in inner and right not in inner:
                text = inner
    return text


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


READERS: dict[str, Callable[[str, Options], Reading]] = {
    "number": _read_number,
    "fraction": _read_number,
    "percentage": partial(_read_number, in_percent=True),
    "math": _read_math,
    "choice": read_choice,
    "boolean": read_boolean,
    "text": _read_text,
}
