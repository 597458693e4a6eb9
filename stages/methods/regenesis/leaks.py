"""The leak check: does a guideline or a reasoning structure give the question's answer away?

The ground truth is used for this check only. A text leaks it in one of three ways, tested in this order:

    marked       its final-answer mark (see stages.answers) reads as the truth
    announced    the truth follows "=", "the answer is", "we get" or the like, and the question does not
                 announce it itself
    contained    the truth is anywhere in the text, is specific, and is not in the question or its options

What is not specific occurs by chance, and counts only when marked or announced: whole numbers from -10 to 10,
100 and one half ("in 3 steps", "check it 2 times"); single words of fewer than TELLING_CHARS characters;
letters of choices and truth values. Numbers of list items and steps ("3.", "Step 3") are ignored; spelled-out
numbers are not detected.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from typing import Any

from stages import answers
from stages.answers.numeric import read_number

TELLING_CHARS = 6
MAX_ANNOUNCEMENTS = 50  # compared per text: more of them is a loop
MAX_ENDS = 4  # places where an announced phrase may end, besides the end of its line
_BY_CHANCE = {Fraction(n) for n in range(-10, 11)} | {Fraction(100), Fraction(1, 2)}

_ITEM = re.compile(r"(?im)^[ \t>*#-]*\(?\d{1,3}[.):](?=\s)|\bstep[ \t]*#?\d{1,3}\b[.):]?")
_NUMBER = re.compile(
    r"(?<![\w.])(?:(?<![\w)])[-\u2212])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?%?"
)
_ANNOUNCED = re.compile(
    r"(?i)(?:\b(?:answer|solution|result|total|sum|product|difference|quotient|value|conclusion)\b"
    r"[^.\n:=]{0,40}?(?:\bis\b|\bare\b|\bbe\b|:)|(?<![<>!])=|\bequals\b"
    r"|\b(?:(?:to|we|you|i)[ ](?:get|obtain)|gets|gives|giving|yields|yielding|obtaining|leaves|leaving|makes"
    r"|becomes)\b)[ \t]*(?=(?P<rest>[^\n=]{1,200}))"
)
_ENDS = re.compile(r"[.;!](?:\s|$)|,\s|\s(?:and|so|then|which|before|after|from|by)\s|\s\(")
_WORDS = re.compile(r"(?<!\\)[A-Za-z]{4,}")  # prose is not for computer algebra


def leak(text: str, task: dict[str, Any]) -> str:
    """Return how `text` gives away the answer of `task` (a task's payload): marked, announced or contained.

    Returns "" if it does not, or if the task has no ground truth to compare with.
    """
    truth, kind, options = task.get("answer"), task["answer_type"], task.get("options")
    if truth is None or not text.strip():
        return ""
    if answers.check_truth(truth, kind, options):
        kind = "text"  # only the scorer of a procedural task knows what its answer means: compare it as text
    question = "\n".join([task["question"], *(options or [])])

    def same(candidate: str) -> bool:
        return answers.equal(candidate, truth, kind, options)

    marked = answers.extract(text, kind, options, task.get("answer_marks") or ()).answer
    if marked is not None and same(marked):
        return "marked"
    bare = _ITEM.sub(" ", text)
    if _announces(bare, kind, same) and not _announces(question, kind, same):
        return "announced"
    return "contained" if _contains(bare, question, truth, kind, same) else ""


def _announces(text: str, kind: str, same: Callable[[str], bool]) -> bool:
    phrases = (p for p in _announced(text) if kind != "math" or not _WORDS.search(p))
    return any(map(same, phrases))


def _announced(text: str) -> Iterator[str]:
    """Yield what is announced: the rest of the line, and its start up to each place a phrase may end."""
    for match in islice(_ANNOUNCED.finditer(text), MAX_ANNOUNCEMENTS):
        rest = match["rest"]
        ends = [end.start() for end in islice(_ENDS.finditer(rest), MAX_ENDS)]
        yield from dict.fromkeys(phrase for end in (*ends, len(rest)) if (phrase := rest[:end].strip()))


def _contains(text: str, question: str, truth: str, kind: str, same: Callable[[str], bool]) -> bool:
    if kind in ("choice", "boolean"):
        return False
    number = read_number(truth)
    if kind != "text" and not isinstance(number, str):
        telling = number.value not in _BY_CHANCE
        return telling and _has_number(text, same) and not _has_number(question, same)
    if kind == "math":
        key, within = (lambda t: "".join(t.split())), (lambda part, whole: part in whole)
    else:
        key, within = _plain, _as_words
    wanted = key(truth)
    telling = len(wanted) >= TELLING_CHARS or " " in wanted
    return telling and within(wanted, key(text)) and not within(wanted, key(question))


def _has_number(text: str, same: Callable[[str], bool]) -> bool:
    return any(same(token) for token in set(_NUMBER.findall(text)))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".")


def _as_words(part: str, whole: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", whole) is not None
