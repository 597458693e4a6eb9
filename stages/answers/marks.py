"""Find the marked final answer in a text, and mark one so that it is found."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

from pipeline import thoughts
from stages.answers.markup import (
    COMMAND,
    MAX_ANSWER_CHARS,
    TAG,
    UNSEEN,
    cut,
    left_open,
    skeleton,
    unwrap,
    without_end,
)

__all__ = [
    "MAX_ANSWER_CHARS",
    "Extraction",
    "Lines",
    "Marked",
    "last_marked",
    "lines_of",
    "mark",
    "on_a_line",
    "unwrap",
]

Words = Sequence[str]
Lines = Literal["one", "paragraph", "rest"]
"""How far a value goes on: one line, up to a blank line, or to the end of the text."""

WORDS = ("Answer",)  # if a recipe sets none
PLACEHOLDERS = frozenset(("x", "letter", "...", "…", "_", "__", "___", "?", "value", "number", "answer"))
MAX_WORDS = 5  # of a value below its mark with more text below: what is longer is a sentence that goes on
MAX_GAP = 200  # characters between two boxes of one statement, and of what surrounds a mark
MAX_MARKS = 50  # without a value, from the end of a text: more of them is a loop


class Extraction(NamedTuple):
    """An answer, or None and the problem as a snake_case name ('' if there is none)."""

    answer: str | None
    problem: str


class Marked(NamedTuple):
    """What is marked, or None and the problem. `rivals` are what the same statement boxes besides, and
    `alternative` what follows the answer after an "or".
    """

    answer: str | None
    problem: str = ""
    rivals: tuple[str, ...] = ()
    alternative: str = ""


class _Place(NamedTuple):
    """Where a mark and its value are in a text."""

    start: int
    value: int
    end: int
    kind: Literal["box", "line", "tag"]


# A second backslash is allowed, since models that imitate JSON write `\\boxed`. Other escapes are skipped, so
# that `\{` is no brace.
_BRACES = re.compile(r"\\\\?boxed\s*\{|\\.|[{}]", re.DOTALL)
_TAG = re.compile(r"<(?:final_)?answer>", re.IGNORECASE)
_TAG_END = re.compile(r"</(?:final_)?answer>", re.IGNORECASE)
_BLANK = rf"[ \t{UNSEEN}]"
_DECORATION = rf"(?:{TAG}|{COMMAND}|\\[\[(]|\(?[0-9]{{1,3}}[.)](?=[\s*_]|$)|[^\w\n\\]|_)*+"
_LEAD = (
    rf"(?:(?:so|thus|hence|therefore|finally|(?:in )?conclusion|result|step [0-9]{{1,3}})\b{_DECORATION})?"
)
_QUALITY = r"(?:(?:final|correct|right|exact|short|numerical|numeric)[ \t]+){0,2}"
_IS = rf"(?:[ \t]+(?:is|es|ist|est)\b|{_BLANK}?[\u662f\u4e3a\u70ba\u306f])?"
_ASIDE = rf"(?:{_BLANK}*\([^()\n]{{0,60}}\))?"
_CLOSED = rf"(?:{TAG}|[ \t\r{UNSEEN}*_~`\"'\u201d\u2019\u00bb\u300d\u300f\u3011)\]}}$])*+"
_LINE = (
    rf"^{_DECORATION}{_LEAD}(?:(?:the|my|our|your)[ \t]+)?{_QUALITY}(?:%s){_IS}{_ASIDE}{_CLOSED}"
    r"(?P<end>:(?:[ \t]*:)?|\||$)"
)
_IN_TABLE, _HEADING = re.compile(r"\|"), re.compile(r"\*\*|__|#|<(?:b|strong|h[1-6])>|\\(?:text|math)bf")
_MARKUP = f' \t\r*_~`$"{UNSEEN}'
_BLOCK = re.compile(r"[ \t]*(?:(```+|~~~+)[^\n]*\n(.*?)\n?[ \t]*\1|\$\$(.*?)\$\$|\\\[(.*?)\\\])", re.DOTALL)
_BULLET = re.compile(r"[ \t]*(?:(?:[>•*+-]|[0-9]{1,3}\.|#{1,6})[ \t]+)+(?=\S)")
_LEAD_IN = re.compile(
    r"(?:so|thus|hence|therefore)?,?[ \t]*(?:the[ \t]+|my[ \t]+)?(?:(?:final|correct|right)[ \t]+)*answer"
    r"(?:[ \t]+is\b[ \t]*:?|[ \t]*:)[ \t]*(?=\S)",
    re.IGNORECASE,
)
_OR = re.compile(r"[\s*_$.,)\]}\\]{0,12}(?:(?:or|oder)\b|\u6216)(?P<other>[^\n]*)", re.IGNORECASE)
_OR_BEFORE = re.compile(
    r"(?:^|[\s,])(?P<other>\S+)[\s$]+(?:or|oder|\u6216)[\s$(\\]*(?:\w\s*=[\s$]*)?$", re.IGNORECASE
)
_NEXT_STATEMENT = re.compile(
    r"\n\s*\n|[.!?;\u3002\uff01\uff1f](?:\s|$)"
    r"|\b(?:rather|instead|wait|actually|corrected|correction|no|not|sorry)\b",
    re.IGNORECASE,
)
_JOINS = re.compile(r"\b(?:or|and|oder|und|ou|et)\b|\u6216|\u548c", re.IGNORECASE)


def last_marked(text: str, words: Words = (), lines: Lines = "one") -> Marked:
    r"""Return the text of the last mark outside a thought: a balanced `\boxed{...}`, `<answer>...</answer>`,
    or a line starting with one of `words` and a colon (default: `Answer:`, `Final answer:`), whose value may
    also stand below it.

    The mark that starts later wins, whatever its kind, as it is the model's last word; in `Answer: \boxed{5}`
    that is the box. Without value, or with a prompt's placeholder (X, LETTER), an earlier one counts.
    Problems: no_marked_answer, unbalanced_box (a box is opened, none is closed, and there is no other mark),
    empty_answer, answer_too_long.
    """
    text = thoughts.without(text)
    places, opened = _places(text, words)
    stop, copied, empty = len(text), None, False
    for place in places[: -MAX_MARKS - 1 : -1]:
        value, after = _value(text, place, stop, lines)
        if len(value) > MAX_ANSWER_CHARS:
            return Marked(None, "answer_too_long")
        stop, value = place.start, unwrap(value)
        if value and not _is_placeholder(value):
            return Marked(value, "", _rivals(text, places, place), _alternative(text, place, after))
        copied, empty = copied or value or None, True
    if copied:  # which may be the answer after all: the Roman numeral X
        return Marked(copied)
    return Marked(None, "empty_answer" if empty else "unbalanced_box" if opened else "no_marked_answer")


def on_a_line(text: str, words: Words = ()) -> bool:
    r"""Tell whether the last mark is an `Answer: ...` line, with or without a box on it."""
    text = thoughts.without(text)
    places = _places(text, words)[0]
    last = max((place for place in places if place.kind == "line"), default=None)
    return last is not None and "\n" not in text[last.value : places[-1].start]


def lines_of(truth: str | None) -> Lines:
    """Return how far an answer goes on that is to be written like `truth`."""
    inner = (truth or "").strip().splitlines()
    if len(inner) < 2:
        return "one"
    return "paragraph" if all(line.strip() for line in inner) else "rest"


def mark(answer: str, words: Words = (), boxed: bool = False) -> str:
    r"""Return the line "Answer: ..." from which `extract` reads `answer` back; `boxed`, \boxed{...} alone.

    Several lines (a grid) stand below the mark, and are read back with the `lines` of a truth that has
    several. What would be read otherwise ("the answer is blowing in the wind") goes into a box.
    """
    answer, word = answer.strip(), (words or WORDS)[0]
    line = f"{word}: {' '.join(answer.split())}"
    forms = [f"{word}:\n{answer}" if "\n" in answer else line, f"{word}: \\boxed{{{answer}}}"]
    forms = [f"\\boxed{{{answer}}}", *forms] if boxed else forms
    lines, wanted = lines_of(answer), unwrap(answer)
    return next((f for f in forms if _same(last_marked(f, words, lines).answer, wanted)), line)


def _same(read: str | None, wanted: str) -> bool:
    return read is not None and (read == wanted or ("\n" not in wanted and read.split() == wanted.split()))


def _places(text: str, words: Words) -> tuple[list[_Place], bool]:
    """Return all marks by their start, and whether any box is opened."""
    boxes, opened = _boxes(text)
    plain = skeleton(text)
    tags = [_Place(*match.span(), len(text), "tag") for match in _TAG.finditer(text)]
    lines = [_line(text, match) for match in _line_pattern(tuple(words)).finditer(plain)]
    return sorted([*boxes, *tags, *(line for line in lines if line)]), opened


def _boxes(text: str) -> tuple[list[_Place], bool]:
    found, opened = [], False
    open_braces: list[tuple[int, int] | None] = []  # None for a brace that opens no box
    for token in _BRACES.finditer(text):
        if token[0] == "{":
            open_braces.append(None)
        elif token[0] == "}":
            if open_braces and (box := open_braces.pop()):
                found.append(_Place(*box, token.start(), "box"))
        elif token[0].endswith("{") and "boxed" in token[0]:
            opened = True
            open_braces.append(token.span())
    return found, opened


@lru_cache(maxsize=64)
def _line_pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    forms = {unicodedata.normalize(form, word) for word in words or WORDS for form in ("NFC", "NFD")}
    ordered = sorted(map(skeleton, forms), key=len, reverse=True)
    either = "|".join(r"[ \t]+".join(map(re.escape, word.split())) for word in ordered)
    return re.compile(_LINE % either, re.IGNORECASE | re.MULTILINE)


def _line(text: str, match: re.Match[str]) -> _Place | None:
    """Return a mark on a line; without a colon it is one as a heading or in bold, alone on its line."""
    if match["end"][:1] != ":":
        before, pattern = (
            text[match.start() : match.end("end") - len(match["end"])],
            _IN_TABLE if match["end"] else _HEADING,
        )
        if not pattern.search(before):
            return None
    return _Place(match.start(), match.end(), len(text), "line")


def _value(text: str, place: _Place, stop: int, lines: Lines) -> tuple[str, str]:
    """Return what is marked, and what follows it on its line. `stop` is where the next mark starts."""
    if place.kind == "box":
        return text[place.value : place.end], ""
    if place.kind == "tag":
        end = _TAG_END.search(text, place.value, stop)
        return _clean(text[place.value : end.start() if end else stop]), ""
    line, newline, more = text[place.value : stop].partition("\n")
    closers = left_open(text[max(place.start, place.value - MAX_GAP) : place.value])
    value, after = cut(line, closers)
    if "|" in text[place.start : place.value]:  # a table's cell
        value = value.partition("|")[0]
    region = value + newline + more
    if block := _BLOCK.match(region):
        return block[0], region[block.end() :].partition("\n")[0]
    if not value.strip(_MARKUP):
        below = _below(more, lines)
        return (below if lines != "one" else cut(below, closers)[0]), ""
    return _clean(_paragraph(region, lines) if lines != "one" else value), after


def _below(text: str, lines: Lines) -> str:
    """Return the value below a mark."""
    text = re.sub(r"\A(?:[ \t\r]*\n)+", "", text)
    if block := _BLOCK.match(text):
        return block[0]
    paragraph = _paragraph(text, lines)
    if lines != "one":
        return paragraph
    line, _, more = paragraph.partition("\n")
    line = line[bullet.end() :] if (bullet := _BULLET.match(line)) else line
    if more.strip() and len(re.findall(r"[^\W\d_]{2,}", line)) > MAX_WORDS:
        return ""
    return _clean(line)


def _paragraph(text: str, lines: Lines) -> str:
    return text if lines == "rest" else re.split(r"\n[ \t]*(?:\n|$)", text, maxsplit=1)[0]


def _clean(value: str) -> str:
    """Return a value without what models say around it: The final answer is 42. I hope it is correct."""
    value = unwrap(without_end(value))
    return value[lead_in.end() :] if (lead_in := _LEAD_IN.match(value)) else value


def _is_placeholder(value: str) -> bool:
    bare = value.strip("<>[]{}()*_ ").lower().rstrip(":") or value
    return bare in PLACEHOLDERS or bare.removeprefix("your ").removeprefix("final ") in PLACEHOLDERS


def _rivals(text: str, places: Sequence[_Place], place: _Place) -> tuple[str, ...]:
    """Return the other boxes of the statement that a box is in: "x = 3 or x = 5", each in a box."""
    boxes = [p for p in places if p.kind == "box" and p.start <= place.start][-MAX_MARKS:]
    rivals: list[str] = []
    for later, earlier in pairwise(reversed(boxes)) if place.kind == "box" else ():
        between = text[earlier.end + 1 : later.start]
        nested = earlier.end > later.start
        if nested or len(between) > MAX_GAP or _NEXT_STATEMENT.search(between):
            break
        if "\n" in between and not _JOINS.search(between):
            break
        rivals.append(unwrap(text[earlier.value : earlier.end]))
    return tuple(rivals)


def _alternative(text: str, place: _Place, after: str) -> str:
    """Return what an "or" beside the answer offers instead of it."""
    if place.kind == "box":
        after = text[place.end + 1 : place.end + 1 + MAX_GAP]
        before = text[max(0, place.start - MAX_GAP) : place.start].rpartition("\n")[2]
        if other := _OR_BEFORE.search(before):
            return unwrap(other["other"])
    other = _OR.match(after)
    return unwrap(other["other"]) if other else ""
