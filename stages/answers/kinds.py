"""One reader per answer type, from the text of an answer to a key that equal answers share."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from string import ascii_uppercase

from stages.answers.marks import MAX_ANSWER_CHARS, unwrap
from stages.answers.numeric import read as read_number
from stages.answers.reading import Options, Reading
from stages.answers.symbolic import read as read_math

_QUOTES = str.maketrans("\u2018\u2019\u02bc\u201c\u201d", "'''\"\"")
_TRUTH_VALUES = {"true": "true", "yes": "true", "false": "false", "no": "false"}
_LABEL = re.compile(
    r"(?:(?:option|choice)\s+)?(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])(?:\s*[.):\uff1a]|$))\s*", re.IGNORECASE
)
_FURTHER_LABEL = re.compile(
    r"(?:^|,|/|&|\bor\b|\band\b)\s*(?:option\s+|choice\s+)?\(?[A-Za-z]\)?(?:[.):]|\s*$)|\([B-Zb-z]\)",
    re.IGNORECASE,
)


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
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = " ".join(text.translate(_QUOTES).split())
    return " ".join(text.strip(" \"'`*_.,;:!?\u2018\u2019\u201c\u201d\u00ab\u00bb").split()) or text


def _read_text(text: str, options: Options) -> Reading:
    return Reading(text, text_key(text))


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
    "number": read_number,
    "fraction": read_number,
    "percentage": partial(read_number, in_percent=True),
    "math": read_math,
    "choice": _read_choice,
    "boolean": _read_boolean,
    "text": _read_text,
}
