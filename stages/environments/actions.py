"""Reading a player's action out of what a model wrote, whatever markup is around it."""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from stages.answers.marks import unwrap


class Move(NamedTuple):
    """A turn, which is a beginning of the text as it was written, and the action in it ("": none)."""

    turn: str
    action: str


# All patterns are matched against `_plain`, where every invisible character is a zero-width space.
_MARKUP = r"(?:[^\w\n:]|_)*+"  # bullets, headings, bold, quotes, emoji
_BEGIN = rf"^{_MARKUP}(?:\d+[.):]{_MARKUP})?"
_CLOSE = r"[*_`~\"'\u201d\u2019\])}>\t \u200b]*"
_SIGN = r"(?::|[=-]>|\u2192|=(?!=)|(?<=[ \t])[-\u2013\u2014](?=[ \t]))"
_NAME = r"(?:(?:the|my|your|next|chosen|final)[ \t]+){0,2}act(?:ions?)?(?:[ \t]+is)?[ \t]*[#(]?\d*\)?"
_TAG = r"<action[ \t]*\d*>"
_LABELED = rf"(?:{_NAME}{_CLOSE}{_SIGN}|{_NAME}[#.]*{_CLOSE}[#=-]*[ \t]*$)"
_LINE = re.compile(rf"{_BEGIN}(?:{_LABELED}|(?<=\[){_NAME}\]|(?<=<)action[ \t]*\d*>)", re.I | re.M)
_ANYWHERE = re.compile(rf"[*_`~]{{0,3}}(?<![^\W_])(?:action[ \t]*#?\d*{_CLOSE}:|{_TAG})", re.I)
_OTHER = rf"{_BEGIN}(?:observation|thought)\b"
_NEXT_TURN = re.compile(rf"\n{_OTHER}", re.I | re.M)
_MADE_UP = re.compile(rf"{_BEGIN}observation\b", re.I | re.M)  # nothing after it is the player's
_OTHER_LINE = re.compile(_OTHER, re.I)
_FENCE = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*\w*[ \t]*$")
_FENCE_BELOW = re.compile(r"[\s*_]*(`{3,}|~{3,})[ \t]*\w*[ \t]*\n")
_CLOSING = re.compile(r"\s*(?:`{3,}|~{3,}|</action[ \t]*\d*>)[ \t]*(?=\n|$)", re.I)
_CLOSING_TAG = re.compile(r"</action[ \t]*\d*>\s*$", re.I)
_EMPHASIS = re.compile(r"[*_`~]+(?!\s)")
_LISTED = re.compile(r"^(?:[-*>\u2022]|\d+[.)])[ \t]+(?=\S)")
_QUOTES = tuple(
    zip(
        "\"'`\u201c\u2018\u201e\u00ab\u300c\u300e",
        "\"'`\u201d\u2019\u201c\u00bb\u300d\u300f",
        strict=True,
    )
)
_MARKED = re.compile(r"(`{2,}|[*_~]{1,3})(\S(?:.*?\S)?)\1[ .]*")
_WRAPPED = 4  # things around an action, one in the other
_AFTER_QUOTE = " .,;)]}>"
_BREAKS = dict.fromkeys(map(ord, "\x0b\x0c\x85\u2028\u2029"), "\n")
_JOINERS = "\u200c\u200d"  # invisible, but part of some words and emoji


def one_line(text: str) -> Move:
    """Read an action of one line, after its label: "Action: ...", in any markup, or on the next line.

    The turn ends at its FIRST action: what a model writes after it is made-up observations and further
    actions, which must be neither played nor trained on. An action on its own line wins over one mentioned in
    a thought ("my next action: ..."), and nothing after an observation counts. `text` is without thoughts in
    tags (pipeline.thoughts).
    """
    return _read(text, several=False)


def several_lines(text: str) -> Move:
    """Read an action of one or more lines, such as code: a fenced block after the label, without the fence,
    or all that follows the label until the next thought or observation. Indentation is kept.
    """
    return _read(text, several=True)


def unlabel(text: str) -> str:
    """Return the text with no "Action:" left in it to read, so that it can precede a turn's own action."""
    labels = [match.span() for match in _ANYWHERE.finditer(_plain(text))]
    for start, end in reversed(labels):
        text = text[:start] + re.sub(r"[<>:\uff1a]", "", text[start:end]) + text[end:]
    return text


def _read(text: str, several: bool) -> Move:
    text = text.strip()
    plain = _plain(text)
    made_up = _MADE_UP.search(plain)
    end = made_up.start() if made_up else len(text)
    for label in _labels(plain, end):
        action, stop = (_block if several else _value)(text, plain, label, end)
        if action:
            return Move(text[:stop].strip(), action)
    return Move(text[:end].strip(), "")


def _labels(plain: str, end: int) -> Iterator[re.Match[str]]:
    """Yield the labels of actions, the one that counts first: on lines of their own, before a second turn."""
    first = min(
        filter(None, (_LINE.search(plain, 0, end), _ANYWHERE.search(plain, 0, end))),
        key=lambda match: match.end(),
        default=None,
    )
    if first is None:
        return
    next_turn = _NEXT_TURN.search(plain, first.end(), end)
    yield from _LINE.finditer(plain, 0, next_turn.start() if next_turn else end)
    yield from _ANYWHERE.finditer(plain, 0, end)
    yield from _LINE.finditer(plain, 0, end)


def _value(text: str, plain: str, label: re.Match[str], end: int) -> tuple[str, int]:
    """Return the action after a label, on its line or the next one with words, and where it stops."""
    at, opened = label.end(), _opened(label[0])
    while at < end:
        stop = _line_end(plain, at, end)
        line = plain[at:stop]
        if at > label.end() and (_OTHER_LINE.match(line) or _LINE.match(line)):
            break
        action = "" if _FENCE.match(line) else _clean(text[at:stop], opened)
        if action:
            closing = _CLOSING.match(plain, stop, end)
            return action, closing.end() if closing else stop
        at, opened = stop + 1, ""
    return "", label.end()


def _block(text: str, plain: str, label: re.Match[str], end: int) -> tuple[str, int]:
    """Return the lines after a label, or what is in the fence that begins there, and where they stop."""
    at = label.end()
    if fence := _FENCE_BELOW.match(plain, at):  # which may hold a line that begins with "thought"
        closed = re.compile(rf"^[ \t]*{fence[1]}[ \t]*$", re.M).search(plain, fence.end())
        stop, after = closed.span() if closed else (end, end)
        return text[fence.end() : max(stop, fence.end())].rstrip(), max(after, fence.end())
    next_turn = _NEXT_TURN.search(plain, at, end)
    stop = next_turn.start() if next_turn else end
    tag = _CLOSING.search(plain, at, stop)
    last = tag.start() if tag else stop
    first_end = min(_line_end(plain, at, stop), last)
    first = _clean(text[at:first_end], _opened(label[0]))
    rest = text[first_end:last].strip("\n").rstrip()
    return "\n".join(filter(None, (first, rest))), tag.end() if tag else stop


def _clean(value: str, opened: str) -> str:
    """Return an action without list marks, markup, quotes and invisible characters around it."""
    value = "".join(c for c in value if c in _JOINERS or unicodedata.category(c) != "Cf")
    value = _CLOSING_TAG.sub("", value).strip()
    if opened:  # **Action:** x, **Action: x**
        value = value.removeprefix(opened) if value.startswith(opened) else value.removesuffix(opened)
    for _ in range(_WRAPPED):
        value = unwrap(_unquoted(_LISTED.sub("", value.strip().strip(_JOINERS), count=1)))
    return "" if not value.strip("*_`~ ") else value


def _unquoted(value: str) -> str:
    if (marked := _MARKED.fullmatch(value)) and marked[1] not in marked[2]:
        return marked[2]
    for left, right in _QUOTES:
        inner, closed, tail = value[1:].rpartition(right)
        whole = value[:1] == left and closed and inner and not tail.strip(_AFTER_QUOTE)
        if whole and left not in inner and right not in inner:
            return inner
    return value


def _opened(label: str) -> str:
    """Return the mark of emphasis that a label opens and does not close, "" without one."""
    marks = _EMPHASIS.findall(label)
    return marks[-1] if len(marks) % 2 else ""


def _line_end(plain: str, at: int, end: int) -> int:
    found = plain.find("\n", at, end)
    return end if found < 0 else found


def _plain(text: str) -> str:
    """Return a copy of the same length to match patterns against: ASCII for full-width characters, one
    invisible character for all, one kind of line break.
    """
    if text.isascii():
        return text
    return "".join(map(_plain_character, text)).translate(_BREAKS)


def _plain_character(character: str) -> str:
    if unicodedata.category(character) == "Cf":
        return "\u200b"
    folded = unicodedata.normalize("NFKC", character)
    return folded if len(folded) == 1 else character
