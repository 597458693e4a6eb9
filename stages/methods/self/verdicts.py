"""The verdict of a feedback, in whatever form a chat model writes it: bold, below a heading, in a sentence,
in JSON, before a closing remark.

A feedback that says both, or hedges, has none. What trains a critic ends with the line that was asked for.
"""

import json
import re
from dataclasses import replace
from typing import Any

from pipeline.engines.base import Completion
from stages.steps.filters import CUT_SHORT

# What may stand between "verdict" and its word: "is that the answer is", "\boxed{\text{".
_BETWEEN = (
    r"(?:is|was|that|the|this|it|as|final|given|proposed|answer|solution|response|therefore|boxed|text|textbf"
    r"|mathrm)"
)
_SUBJECT = (
    r"(?:so|therefore|thus|hence|overall|in|conclusion|the|this|all|final|given|proposed|answer|solution|steps?"
    r"|is|are)"
)
_HEDGE = re.compile(r"\b(?:but|however|except|although|though|partly|partially|only)\b", re.IGNORECASE)
_VERB = re.compile(r"[ \t]+(?:the|your|this|that|it|its)\b", re.IGNORECASE)  # "Correct the sign."
_MARKS_BEFORE = re.compile(r"(?m)(?:^[`*#_=-]+\s*\n)*^[^\w\n]*(?:\d{1,2}[.)][^\w\n]*)?\Z")
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\s*\Z", re.DOTALL)


def read_verdict(feedback: Completion, words: tuple[str, str]) -> bool | None:
    """Return True if the feedback's verdict is the first of `words`, False if the second, None if it has
    none, or both.
    """
    found = _statements(_plain(feedback.text), words) if feedback.finish_reason not in CUT_SHORT else []
    said = {verdict for verdict, _ in found}
    return said.pop() if len(said) == 1 else None


def with_last_line(feedback: Completion, verdict: bool, words: tuple[str, str]) -> Completion:
    """Return a feedback whose verdict was read, with the line "Verdict: ..." as its last one."""
    text = feedback.text.strip()
    last = re.fullmatch(rf"[\W_]*verdict[\W_]+{_either(words)}[\W_]*", text.splitlines()[-1], re.IGNORECASE)
    found = _statements(plain := _plain(text), words)
    match = found[0][1]
    before = _MARKS_BEFORE.sub("", plain[: match.start()]).strip()
    if last and plain == text and (len(found) == 1 or not before):
        return replace(feedback, text=text)
    body = before or plain[match.end() :].partition("\n")[2].strip()  # a verdict may come first
    return replace(feedback, text=f"{body}\nVerdict: {words[not verdict]}".strip())


def _statements(text: str, words: tuple[str, str]) -> list[tuple[bool | None, re.Match[str]]]:
    """Return what is said of the verdict, each with its place; None: both words, or a hedge."""
    stated = rf"(?P<no>not[\W_]+)?(?P<word>{_either(words)})(?![^\W_])"
    pattern = (
        rf"(?<![^\W_])(?:(?:the|my|final|overall)[\W_]+)*verdict[\W_]+(?:{_BETWEEN}[\W_]+){{0,9}}{stated}"
    )
    found = list(re.finditer(pattern, text, re.IGNORECASE))
    if not found:
        last = rf"[\W_]*(?:{_SUBJECT}[\W_]+){{0,9}}{stated}[\W_]*"
        start = text.rstrip().rfind("\n") + 1
        found = [m for m in [re.compile(last, re.IGNORECASE).fullmatch(text.rstrip(), start)] if m]
    return [(_meant(match, text, words), match) for match in found if not _VERB.match(text, match.end())]


def _meant(match: re.Match[str], text: str, words: tuple[str, str]) -> bool | None:
    positive = match["word"].casefold() == words[0].casefold()
    rest = text[match.end() :].partition("\n")[0]
    other = re.escape(words[positive])
    if re.match(rf"[\W_]*(?:(?:or|and)[\W_]+)?(?:verdict[\W_]+)?{other}(?![^\W_])", rest, re.IGNORECASE):
        return None
    if match["no"]:
        return False if positive else None
    hedged = positive and (
        _HEDGE.search(rest) or re.search(rf"(?<![^\W_]){other}(?![^\W_])", rest, re.IGNORECASE)
    )
    return None if hedged else positive


def _either(words: tuple[str, str]) -> str:
    return f"(?:{'|'.join(map(re.escape, words))})"


def _plain(text: str) -> str:
    """Return a feedback in JSON as lines, its verdict last; any other as it is, without a fence around it."""
    inside = fence[1] if (fence := _FENCE.match(text.strip())) else text.strip()
    try:
        read = json.loads(inside)
    except (ValueError, RecursionError):
        return inside
    if not isinstance(read, dict):
        return inside
    last = sorted(read.items(), key=lambda item: item[0].casefold() == "verdict")
    return "\n".join(line for key, value in last for line in _lines(key, value))


def _lines(key: str, value: Any) -> list[str]:
    if isinstance(value, list):
        return [line for one in value for line in _lines("", one)]
    if isinstance(value, dict):
        return [" ".join(str(one) for one in value.values())]
    return [f"{key}: {value}" if key else str(value)]
