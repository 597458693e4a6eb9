"""Whether a long text is fit to learn from, by rules alone, and its parts. Source: Self-Lengthen 1.4, 1.7, 1.8, and the faults in 1.14."""

import re
from collections.abc import Sequence

from pipeline.ids import unit_interval
from stages.methods.self_lengthen.lengths import is_chinese

ENDS = frozenset(".!?\"')]}>`\u2026\u201d\u2019")
ENDS_CHINESE = frozenset(
    "\u3002\uff01\uff1f\u300d\u300f\uff09\u3011\u300b\u3009\u201d\u2019\u2026`.!?\"')]}>"
)  # with the ASCII ones: Chinese texts may end with an English sentence
NGRAM, NGRAM_CHINESE = 10, 13
CHATTER = ("revised", "revision", "response", "version", "paragraph")
HEAD_LINES, TAIL_LINES = 2, 3

_UNIT = re.compile(r"[^\x00-\x7f]|[\x00-\x7f]+")
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
# What points at the text itself; an essay may speak of a response, of "the immune response" or of letters without one.
_EDITED = r"(?:revised|expanded|extended|improved|rewritten|polished|lengthened|longer|updated|final)"
_POINTS = rf"here(?:'s|\u2019s| is| are)|(?:this is|that was|i(?:'ve|\u2019ve| have))(?= (?:[\w-]+ ){{0,4}}?{_EDITED}\b)|(?:the|this|my)(?= (?:{_EDITED}|above|following)\b)"
_HANDED = re.compile(
    rf"\bhere(?:'s|\u2019s| is)\W+(?:an?|the|my|your)\W+{_EDITED}\W+(?:[\w-]+\W+)?(?:text|outline|essay|article|story)\b",
    re.IGNORECASE,
)
_HEADING = re.compile(
    rf"^\W*(?:(?:the|my)\s+)?{_EDITED}\s+(?:[\w-]+\s+)?(?:version|response|text|outline|draft)\b",
    re.IGNORECASE,
)
_HEADING_WORDS = 8


def problem(text: str, instruction: str = "", finish_reason: str = "stop") -> tuple[str, str] | None:
    """Return why a text must not be learnt from (reason, detail), None if it may.

    Reasons: empty_text, truncated (the model was cut off), unfinished (it does not end as a sentence does), chatter (it speaks of
    itself as of a version), repetition.
    """
    body = text.rstrip()
    if not body:
        return "empty_text", "the text is blank"
    if finish_reason != "stop":
        return "truncated", f"ended by {finish_reason}"
    if body[-1] not in (ENDS_CHINESE if is_chinese(body) else ENDS):
        return "unfinished", f"ends with {body[-1]!r}"
    if found := _chatter(body, instruction):
        return "chatter", found
    if found := repeated_run(body):
        return "repetition", f"twice: {found[:200]}"
    return None


def repeated_run(text: str) -> str:
    """Return the first run of NGRAM words (or NGRAM_CHINESE units) that occurs a second time, "" if none does."""
    chinese, seen = is_chinese(text), set()
    for run in _runs(text):
        if run in seen:
            return ("" if chinese else " ").join(run)
        seen.add(run)
    return ""


def repetition_rate(text: str) -> float:
    """Return the share of a text's runs that occurred in it before."""
    runs = _runs(text)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def units(text: str) -> Sequence[str]:
    """Return what runs are made of: words; in Chinese texts single characters, and stretches of ASCII as one."""
    return _UNIT.findall(text) if is_chinese(text) else text.split()


def _runs(text: str) -> list[tuple[str, ...]]:
    found, size = tuple(units(text)), NGRAM_CHINESE if is_chinese(text) else NGRAM
    return [found[i : i + size] for i in range(len(found) - size + 1)]


def _chatter(text: str, instruction: str) -> str:
    """Return a line at the beginning or end in which the text speaks of itself, by a word that the instruction does not use."""
    if is_chinese(text):
        return ""
    asked = instruction.casefold()
    told = [word for word in CHATTER if word not in asked]
    if not told:
        return ""
    pattern = re.compile(rf"\b(?:{_POINTS})\W+(?:[\w-]+\W+){{0,3}}?(?:{'|'.join(told)})s?\b", re.IGNORECASE)
    lines = [line for line in text.splitlines() if line.strip()]
    near = [
        *lines[:HEAD_LINES],
        *lines[HEAD_LINES:][-TAIL_LINES:],
    ]  # no line of a short text is looked at twice
    return next(
        (
            line[:200]
            for line in near
            if pattern.search(line) or _HANDED.search(line) or _is_heading(line, asked)
        ),
        "",
    )


def _is_heading(line: str, asked: str) -> bool:
    found = _HEADING.search(line)
    return (
        bool(found) and len(line.split()) <= _HEADING_WORDS and found[0].casefold().split()[-1] not in asked
    )


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text: what blank lines divide."""
    return [part.strip("\n") for part in _BLANK.split(text.strip()) if part.strip()]


def first_half(text: str) -> str:
    """Return the first half of a text's paragraphs, of its lines where it has two paragraphs or fewer; at least one."""
    blocks = paragraphs(text)
    if len(blocks) <= 2:
        blocks = [line for line in text.splitlines() if line.strip()]
    return "\n\n".join(blocks[: max(1, len(blocks) // 2)])


def first_two_thirds(text: str, finish_reason: str = "stop") -> str:
    """Return the first two thirds of a text's paragraphs, at least one; "" where the only one was cut off."""
    blocks = paragraphs(text)
    if len(blocks) == 1 and finish_reason != "stop":
        return ""
    return "\n\n".join(blocks[: max(1, len(blocks) * 2 // 3)])


def join(beginning: str, rest: str) -> str:
    """Put a text and what was written after it together, with one blank line between."""
    return f"{beginning.rstrip()}\n\n{rest.strip()}"


def thinned(text: str, share: float, *key: object) -> str:
    """Return a text without a `share` of its lines, drawn by `key`; line ends and blank lines between the others stay as they are."""
    pieces = re.split(r"(\n\s*)", text.strip())
    lines, gaps = pieces[::2], [*pieces[1::2], ""]
    kept = [i for i in range(len(lines)) if unit_interval("thinned", *key, i) >= share] or [0]
    return "".join(lines[i] + (gaps[i] if i != kept[-1] else "") for i in kept)
