r"""Sequence[Token] of a mathematical answer. Whatever is no known token is UnreadError, and never left out.

Letters that stand for words are kept apart from letters that stand for variables: "abc" and "mgh" are
products, "cats" and `\text{cats}` are words.
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from stages.answers.units import SHORT_UNITS, words

_OPENING, _CLOSING = (
    ("(", "[", "{", "\\{", "langle", "begin", "lfloor", "lceil"),
    (")", "]", "}", "\\}", "rangle", "end", "rfloor", "rceil"),
)


class UnreadError(ValueError):
    """The text, or a part of it, has no certain mathematical meaning here."""


class Token(NamedTuple):
    """`kind` is number, name (a variable), command, sign, word, or unit (a unit or a product, such as mg).

    `spaced`: white space comes before it.
    """

    kind: str
    text: str
    spaced: bool = False


GREEK = words("""
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau
upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
""")
FUNCTIONS = words("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp")
_COMMANDS = FUNCTIONS | words("""
frac sqrt binom cdot times div pm mp pi infty le ge ne in cup lor vee land wedge emptyset lfloor rfloor
lceil rceil degree langle rangle angle begin end
""")
_SHORT_WORDS = words("or and if no on is in to at of bn mn tn")
_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>[0-9]+(?:\.[0-9]*)?\\(?:overline|bar|dot)\s*(?:\{[0-9]+\}|[0-9])"
    r"(?:[0-9]*\\dot\s*(?:\{[0-9]\}|[0-9]))?"
    r"|[0-9]+\.[0-9]*\([0-9]+\)|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+(?![0-9.]))?)"
    r"|\\(?:text|textbf|textit|textrm|mbox|mathrm|mathit|operatorname\*?)\s*\{(?P<text>[^{}]*)\}"
    r"|\\mathbf\s*(?:\{(?P<bold>[A-Za-z])\}|(?P<bold2>[A-Za-z]))"
    r"|\\mathbb\s*(?:\{(?P<set>[A-Z])\}|(?P<set2>[A-Z]))"
    r"|(?P<row>\\\\)|(?P<brace>\\[{}])|\\(?P<command>[A-Za-z]+)"
    r"|(?P<letters>[A-Za-z]+)|(?P<sign>[-+*/^_=<>(){}\[\],;!|%&$.€£¥])"
)
_ORDINAL = re.compile(r"\^\s*\{?\s*(?:st|nd|rd|th)(?![a-zA-Z])")
_VOWELS = frozenset("aeiouyAEIOUY")


def tokenize(text: str) -> list[Token]:
    """Return the tokens of a tidied text (see typography.py). Raises UnreadError."""
    if _ORDINAL.search(text):
        raise UnreadError("an ordinal number")
    tokens: list[Token] = []
    at, spaced = 0, False
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise UnreadError(f"no token at {text[at : at + 20]!r}")
        kind = match.lastgroup
        if kind != "space":
            tokens += _tokens(match, kind or "", spaced)
        at, spaced = match.end(), kind == "space"
    return tokens


def _tokens(match: re.Match[str], kind: str, spaced: bool) -> list[Token]:
    content = match[kind]
    if kind in ("number", "sign"):
        return [Token(kind, content, spaced)]
    if kind == "row":
        return [Token("sign", "\\\\", spaced)]
    if kind == "brace":
        return [Token("sign", content, spaced)]
    if kind in ("bold", "bold2"):
        return [Token("name", f"\\mathbf{{{content}}}", spaced)]
    if kind in ("set", "set2"):
        return [Token("word", f"\\mathbb{{{content}}}", spaced)]
    if kind == "command":
        return [_command(content, spaced)]
    if kind == "text":
        return _of_text(content.strip(), match[0], spaced)
    return _of_letters(content, spaced)


def _command(name: str, spaced: bool) -> Token:
    if name in GREEK:
        return Token("name", f"\\{name}", spaced)
    if name not in _COMMANDS:
        raise UnreadError(f"unknown command \\{name}")
    return Token("command", {"vee": "lor", "wedge": "land"}.get(name, name), spaced)


def _of_text(content: str, whole: str, spaced: bool) -> list[Token]:
    if not content:
        return []
    if whole.startswith(("\\mathrm", "\\operatorname", "\\mathit")):
        if content in FUNCTIONS:
            return [Token("command", content, spaced)]
        if content in ("e", "i") or whole.startswith("\\mathit"):
            return _of_letters(content, spaced)
    return [Token("word", " ".join(content.split()), True)]


def _of_letters(letters: str, spaced: bool) -> list[Token]:
    if letters in FUNCTIONS:
        return [Token("command", letters, spaced)]
    if letters in ("pi", "infinity", "infty"):
        return [Token("command", "pi" if letters == "pi" else "infty", spaced)]
    if letters == "sqrt":
        return [Token("command", "sqrt", spaced)]
    if letters in SHORT_UNITS:
        return [Token("unit", letters, spaced)]
    if is_word(letters):
        return [Token("word", letters, spaced)]
    if "d" in letters[:-1]:
        raise UnreadError("d and a letter: a differential?")
    return [Token("name", c, spaced and i == 0) for i, c in enumerate(letters)]


def is_word(letters: str) -> bool:
    """Tell whether adjacent letters are a word, like "or" and "cats", and no product, like "xy" and "mgh"."""
    if len(letters) == 1:
        return False
    if letters.lower() in _SHORT_WORDS:
        return True
    if len(letters) == 2:
        return False
    in_order = all(a < b for a, b in pairwise(letters))
    return len(letters) > 4 or not (in_order or _VOWELS.isdisjoint(letters))


def is_sign(token: Token, *texts: str) -> bool:
    """Tell whether a token is one of these signs or commands."""
    return token.kind in ("sign", "command") and token.text in texts


def nesting(token: Token) -> int:
    """Return 1 for a token that opens brackets, -1 for one that closes them, else 0."""
    return is_sign(token, *_OPENING) - is_sign(token, *_CLOSING)


def separator(token: Token) -> str:
    """Return what a token says about the answers it separates: ",", or, and, lor, land, or ''."""
    if is_sign(token, ",", ";"):
        return ","
    word = token.text.lower() if token.kind in ("word", "command") else ""
    return word if word in ("or", "and", "lor", "land") else ""


def split(tokens: Sequence[Token], at: Callable[[Token], str]) -> tuple[list[Sequence[Token]], list[str]]:
    """Split at separators outside of brackets; return the parts and what is between them."""
    parts: list[list[Token]] = [[]]
    joints: list[str] = []
    depth = 0
    for token in tokens:
        depth += nesting(token)
        if depth == 0 and (joint := at(token)):
            if parts[-1]:
                parts.append([])
                joints.append(joint)
            elif joints and joints[-1] == ",":  # ", or"
                joints[-1] = joint
            else:
                raise UnreadError("nothing before a separator")
        else:
            parts[-1].append(token)
    if depth or not parts[-1]:
        raise UnreadError("open brackets, or nothing at the end")
    return [*parts], joints
