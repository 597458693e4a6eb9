"""Markup around an answer: bold, code, quotes, HTML, LaTeX, and characters that cannot be seen."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

MAX_ANSWER_CHARS = 4096  # bounds the cost of everything done with an answer
MAX_OPEN = 8  # markup around markup
UNSEEN = "\u200b"  # stands for every format character (zero-width, direction mark) in a `skeleton`

_WRAPPERS = (
    *((mark, mark) for mark in ("***", "**", "*", "___", "__", "_", "~~", "```", "`", "$$", "$")),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
)
COMMAND = (
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt)|mbox|emph|underline|bm|boldsymbol)\s*\{"
)
_WHOLE_COMMAND = re.compile(COMMAND + r"([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_WHOLE_TAG = re.compile(r"<([a-z][a-z0-9]*)\b[^<>]*>((?:(?!<\1\b).)*)</\1\s*>", re.IGNORECASE | re.DOTALL)
_WHOLE_FENCE = re.compile(r"(```+|~~~+)[^\n`~]*\n(.*?)\n?[ \t]*\1", re.DOTALL)
# At the end of an answer: a model's special tokens, and what Minerva's prompt taught models to say.
_SPECIAL = r"<\|[^<>|\n]{1,40}\|>|</s>|<eos>|<end_of_turn>|\[/INST\]"
_HOPE = r"(?<=[\s.$*])I hope (?:it|this|that) is (?:correct|right)[.!]?"
_END = re.compile(rf"(?:\s|{_SPECIAL}|{_HOPE})+$")

TAG = r"</?[a-zA-Z][a-zA-Z0-9]*(?:\s[^<>\n]{0,100})?/?>"
_TOKEN = re.compile(
    rf"(?P<tag>{TAG})|(?P<command>{COMMAND})"
    r"|(?P<sign>\\[\[\]()]|\*{1,3}|_{1,3}|~~|`{1,3}|\$\$?"
    r"|[\"'()\[\]{}\u201c\u201d\u2018\u2019\u00ab\u00bb\u300c-\u300f\u3010\u3011])"
)
_CLOSERS = {"\\(": "\\)", "\\[": "\\]"}
_CLOSERS |= dict(
    zip("([{\u201c\u2018\u00ab\u300c\u300e\u3010", ")]}\u201d\u2019\u00bb\u300d\u300f\u3011", strict=True)
)
_OPENERS = {closer: opener for opener, closer in _CLOSERS.items()}


def skeleton(text: str) -> str:
    """Return `text` in its plainest form, character by character, for patterns to look for marks in.

    Full-width forms become ASCII, other spaces a space, format characters UNSEEN. No position changes.
    """
    if text.isascii():
        return text
    return text.translate({ord(c): _plainest(c) for c in set(text) if not c.isascii()})


def _plainest(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf" or "\ufe00" <= character <= "\ufe0f":
        return UNSEEN
    if category in ("Zs", "Zl", "Zp"):
        return " " if category == "Zs" else "\n"
    compatible = unicodedata.normalize("NFKC", character)
    return compatible if len(compatible) == 1 and compatible.isascii() else character


def without_unseen(text: str) -> str:
    """Return `text` without format characters."""
    return text if text.isascii() else "".join(c for c in text if unicodedata.category(c) != "Cf")


def trim(text: str) -> str:
    """Strip white space and format characters."""
    last = len(text)
    while last and _is_blank(text[last - 1]):
        last -= 1
    return trim_left(text[:last])


def trim_left(text: str) -> str:
    """Strip white space and format characters at the beginning."""
    first = 0
    while first < len(text) and _is_blank(text[first]):
        first += 1
    return text[first:]


def _is_blank(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) == "Cf"


def unwrap(text: str) -> str:
    r"""Take off what surrounds the whole of `text`: white space, bold, code, math delimiters, HTML tags,
    `\text{...}`, and a full stop after one of these.
    """
    before = None
    while text != before and len(text) <= MAX_ANSWER_CHARS:
        before, text = text, trim(text)
        inner = _inside(text)
        if inner == text and text[-1:] in (".", "\u3002") and (bare := text[:-1].rstrip()):
            inner = _inside(bare) if _inside(bare) != bare else text
        text = inner
    return text


def _inside(text: str) -> str:
    if fence := _WHOLE_FENCE.fullmatch(text):
        return fence[2]
    for left, right in _WRAPPERS:
        inner = text[len(left) : -len(right)]
        if inner.strip() and text == left + inner + right and left not in inner and right not in inner:
            return inner
    if command := _WHOLE_COMMAND.fullmatch(text):
        return command[1]
    tag = _WHOLE_TAG.fullmatch(text) if text.startswith("<") else None
    return tag[2] if tag else text


def without_end(text: str) -> str:
    """Return `text` without special tokens and "I hope it is correct." at its end."""
    match = _END.search(text, max(0, len(text) - 500))
    return text[: match.start()] if match and text[: match.start()].strip() else text


def left_open(text: str) -> list[str]:
    """Return what would close the markup that `text` opens, innermost first.

    A list's bullet opens nothing.
    """
    closers: list[str] = []
    for token in _TOKEN.finditer(text):
        sign, rest = token[0], text[token.end() :]
        if closers and (sign == closers[-1] or (token["tag"] and sign.lower() == closers[-1])):
            closers.pop()
        elif token["tag"]:
            if not sign.startswith("</") and not sign.endswith("/>"):
                closers.append(f"</{re.split(r'[ >]', sign[1:].lower())[0]}>")
        elif token["command"]:
            closers.append("}")
        elif sign in _CLOSERS:
            closers.append(_CLOSERS[sign])
        elif sign not in _OPENERS and not (sign in ("*", "_") and rest[:1].isspace()):
            closers.append(sign)
    return closers[: -MAX_OPEN - 1 : -1]


def cut(text: str, closers: Sequence[str]) -> tuple[str, str]:
    """Return `text` up to where the first of the `closers` stands, and what follows it.

    Closers at the very beginning close what came before `text`, and are left out.
    """
    waiting = list(closers)
    while waiting and (bare := trim_left(text)).lower().startswith(waiting[0]):
        text = bare[len(waiting.pop(0)) :]
    places = [place for closer in waiting if (place := next(_places(text, closer), None)) is not None]
    if not places:
        return text, ""
    first, after = min(places)
    return text[:first], text[after:]


def _places(text: str, closer: str) -> Iterator[tuple[int, int]]:
    """Yield where `closer` closes something that was opened before `text`."""
    if opener := _OPENERS.get(closer):
        depth = 0
        for match in re.finditer(f"{re.escape(opener)}|{re.escape(closer)}", text):
            depth += 1 if match[0] == opener else -1
            if depth < 0:
                yield match.span()
                return
    else:
        sign = re.escape(closer)
        pattern = sign if closer[0] == "<" else rf"(?<=\S){sign}(?!\w)|{sign}\s*$"
        yield from (match.span() for match in re.finditer(pattern, text, re.IGNORECASE))
