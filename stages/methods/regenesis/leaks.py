"""Does a text give a question's answer away? Guidelines and structures must not: they are to stay abstract (ReGenesis 1.3).

The truth serves this check alone. A text leaks it in one of three ways, tried in this order:

marked     its final-answer mark (see stages.answers) reads as the truth.
announced  the truth follows "=", "the answer is", "we get" or the like, and the question does not announce it itself.
contained  the truth stands anywhere in the text, is telling, and is not in the question or its options.

What is not telling occurs by chance, and so only counts when it is marked or announced: whole numbers from -10 to 10, 100 and one
half ("in 3 steps", "check it 2 times"); texts of one word with fewer than TELLING_CHARS characters; every letter of a choice and
every truth value. The numbers of list items and of steps ("3.", "Step 3") are no numbers. Numbers that are spelt out are not seen.
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
MAX_ANNOUNCEMENTS = 50  # of one text that are compared: more of them is a loop
MAX_ENDS = 4  # places where an announced phrase may end, beside the end of its line
_BY_CHANCE = {Fraction(n) for n in range(-10, 11)} | {Fraction(100), Fraction(1, 2)}

_ITEM = re.compile(
    r"^[ \t>*#-]*\(?\d{1,3}[.):](?=\s)|\bstep[ \t]*#?\d{1,3}\b[.):]?", re.IGNORECASE | re.MULTILINE
)
_NUMBER = re.compile(
    r"(?<![\w.])(?:(?<![\w)])[-\u2212])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?%?"
)
_ANNOUNCED = re.compile(
    r"(?:\b(?:answer|solution|result|total|sum|product|difference|quotient|value|conclusion)\b[^.\n:=]{0,40}?(?:\bis\b|\bare\b|\bbe\b|:)"
    r"|(?<![<>!])=|\bequals\b|\b(?:(?:to|we|you|i)[ ](?:get|obtain)|gets|gives|giving|yields|yielding|obtaining|leaves|leaving|makes|becomes)\b)"
    r"[ \t]*(?=(?P<rest>[^\n=]{1,200}))",
    re.IGNORECASE,
)
_ENDS = re.compile(r"[.;!](?:\s|$)|,\s|\s(?:and|so|then|which|before|after|from|by)\s|\s\(")
_WORDS = re.compile(r"(?<!\\)[A-Za-z]{4,}")


def leak(text: str, task: dict[str, Any]) -> str:
    """Return how `text` gives away the answer of `task` (a task's payload): marked, announced, contained; '' when it does not.

    '' as well when the task has no ground truth: there is nothing to compare with.
    """
    truth, kind, options = task.get("answer"), task["answer_type"], task.get("options")
    if truth is None or not text.strip():
        return ""
    if answers.check_truth(truth, kind, options):
        kind = "text"  # a procedural task's own scorer knows what its answer means; here it is a text like another
    question = "\n".join([task["question"], *(options or [])])

    def same(said: str) -> bool:
        return answers.equal(said, truth, kind, options)

    marked = answers.extract(text, kind, options).answer
    if marked is not None and same(marked):
        return "marked"
    bare = _ITEM.sub(" ", text)
    if _announces(bare, kind, same) and not _announces(question, kind, same):
        return "announced"
    return "contained" if _contains(bare, question, truth, kind, same) else ""


def _announces(text: str, kind: str, same: Callable[[str], bool]) -> bool:
    return any(
        same(said) for said in _announced(text) if not (kind == "math" and _WORDS.search(said))
    )  # prose is not for computer algebra


def _announced(text: str) -> Iterator[str]:
    """Yield what is announced: the rest of the line, and its beginning up to each place where a phrase may end."""
    for found in islice(_ANNOUNCED.finditer(text), MAX_ANNOUNCEMENTS):
        rest = found["rest"]
        ends = [end.start() for end in islice(_ENDS.finditer(rest), MAX_ENDS)]
        yield from dict.fromkeys(said for end in (*ends, len(rest)) if (said := rest[:end].strip()))


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
