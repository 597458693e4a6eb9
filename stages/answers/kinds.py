"""One reader per answer type, from the text of an answer to a key that equal answers share."""

import re
import unicodedata
from collections.abc import Callable
from functools import partial

from stages.answers.choices import read_boolean, read_choice, text_key
from stages.answers.markup import MAX_ANSWER_CHARS, unwrap, without_unseen
from stages.answers.numeric import read as read_number
from stages.answers.reading import Options, Reading
from stages.answers.symbolic import read as read_math

NUMERIC = ("number", "fraction", "percentage")
# Around numbers, choices and truth values these mean nothing.
_PAIRS = ('""', "''", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb", "\u300c\u300d", "[]")
_CLOSING = {pair[1] for pair in _PAIRS}
_BOLD = re.compile(r"(?<![\w*])\*\*([^*\s](?:[^*]*[^*\s])?)\*\*(?![\w*])")
_FIRST_PICTOGRAM = "\u2600"
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
        before, text = text, _BOLD.sub(r"\1", unwrap(without_unseen(text)))
        if text[-1:] == "." and text[-2:-1] in _CLOSING:
            text = text[:-1]
        while text[-1:] >= _FIRST_PICTOGRAM and unicodedata.category(text[-1]) in ("So", "Sk", "Mn"):
            text = text[:-1].rstrip()
        for left, right in map(tuple, _PAIRS):
            inner = text[1:-1]
            if inner.strip() and text == left + inner + right and left not in inner and right not in inner:
                text = inner
    return text


def _read_code(text: str, options: Options) -> Reading:
    return Reading(text, text)


def _read_text(text: str, options: Options) -> Reading:
    return Reading(text, text_key(text))


READERS: dict[str, Callable[[str, Options], Reading]] = {
    "number": read_number,
    "fraction": read_number,
    "percentage": partial(read_number, in_percent=True),
    "math": read_math,
    "choice": read_choice,
    "boolean": read_boolean,
    "text": _read_text,
    "code": _read_code,
}
