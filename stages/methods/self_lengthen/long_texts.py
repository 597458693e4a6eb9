"""Rules for whether a long text is fit to train on, and the parts of a text.

Source: Self-Lengthen (Quan et al. 2024, arXiv 2410.23933). Texts of mostly Chinese characters, and those in
Thai and other scripts without spaces, have their own constants.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from pipeline import thoughts
from pipeline.engines.base import Completion
from pipeline.ids import unit_interval
from stages.methods.self_lengthen.lengths import is_chinese, is_unspaced
from stages.steps import sentences
from stages.steps import words as words_of_any_script

Problem = tuple[str, str]  # reason and detail

_ASCII_ENDS = ".!?\"')]}>`"
ENDS = frozenset(_ASCII_ENDS + "\u2026\u201d\u2019")
# A Chinese text may end with an English sentence.
ENDS_CHINESE = ENDS | frozenset("\u3002\uff01\uff1f\u300d\u300f\uff09\u3011\u300b\u3009")
# Of other scripts; a text in kana may end as a Chinese one does, and Thai has no marks.
_OTHER_ENDS = frozenset(sentences.MARKS) - ENDS_CHINESE
_KANA, _THAI_END = re.compile("[\u3040-\u30ff]"), re.compile(f"[{sentences.UNMARKED}]")
NGRAM, NGRAM_CHINESE = 10, 13
NGRAM_UNSPACED = 32  # characters with their marks: about ten words of Thai
CHATTER = ("revised", "revision", "response", "version", "paragraph")
HEAD_LINES, TAIL_LINES = 2, 3

_UNIT = re.compile(r"[^\x00-\x7f]|[\x00-\x7f]+")
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
# References to the text itself; a CHATTER word alone may be its subject ("the immune response").
_EDITED = r"(?:revised|expanded|extended|improved|rewritten|polished|lengthened|longer|updated|final)"
_POINTS = (
    rf"here(?:'s|\u2019s| is| are)"
    rf"|(?:this is|that was|i(?:'ve|\u2019ve| have))(?= (?:[\w-]+ ){{0,4}}?{_EDITED}\b)"
    rf"|(?:the|this|my)(?= (?:{_EDITED}|above|following)\b)"
)
_HANDED = re.compile(
    rf"(?i)\bhere(?:'s|\u2019s| is)\W+(?:an?|the|my|your)\W+{_EDITED}\W+(?:[\w-]+\W+)?"
    r"(?:text|outline|essay|article|story)\b"
)
_HEADING = re.compile(
    rf"(?i)^\W*(?:(?:the|my)\s+)?{_EDITED}\s+(?:[\w-]+\s+)?(?:version|response|text|outline|draft)\b"
)
_HEADING_WORDS = 8


def problem(text: str, instruction: str = "", finish_reason: str = "stop") -> Problem | None:
    """Return why a text is unfit to train on, None if it is fit.

    Reasons: empty_text, truncated (by the engine), unfinished (it does not end like a sentence), chatter (it
    talks about itself as a version), repetition.
    """
    body = text.rstrip()
    if not body:
        return "empty_text", "the text is blank"
    if finish_reason != "stop":
        return "truncated", f"ended by {finish_reason}"
    if not _ends(body):
        return "unfinished", f"ends with {body[-1]!r}"
    if line := _chatter(body, instruction):
        return "chatter", line
    if run := repeated_run(body):
        return "repetition", f"twice: {run[:200]}"
    return None


def _ends(body: str) -> bool:
    ends = ENDS_CHINESE if is_chinese(body) or _KANA.search(body) else ENDS
    return body[-1] in ends or body[-1] in _OTHER_ENDS or _THAI_END.match(body[-1]) is not None


def spoken(reply: Completion) -> Completion:
    """Return a reply without thoughts, which are no part of a text, of its length and of what is learned."""
    return replace(reply, text=thoughts.without(reply.text)) if thoughts.split(reply.text).thought else reply


def repeated_run(text: str) -> str:
    """Return the first run of NGRAM words (NGRAM_CHINESE, NGRAM_UNSPACED units) that occurs twice, "" without
    one.
    """
    seen = set()
    for run in _runs(text):
        if run in seen:
            return ("" if is_chinese(text) or is_unspaced(text) else " ").join(run)
        seen.add(run)
    return ""


def repetition_rate(text: str) -> float:
    """Return the share of a text's runs that occurred earlier in it."""
    runs = _runs(text)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def units(text: str) -> Sequence[str]:
    """Return what runs consist of: words; in Chinese texts characters, with each stretch of ASCII as one; in
    scripts without spaces characters with their marks.
    """
    if is_chinese(text):
        return _UNIT.findall(text)
    return words_of_any_script.split(text) if is_unspaced(text) else text.split()


def _runs(text: str) -> list[tuple[str, ...]]:
    size = NGRAM_CHINESE if is_chinese(text) else NGRAM_UNSPACED if is_unspaced(text) else NGRAM
    parts = tuple(units(text))
    return [parts[i : i + size] for i in range(len(parts) - size + 1)]


def _chatter(text: str, instruction: str) -> str:
    """Return a first or last line in which the text refers to itself, in words the instruction lacks."""
    asked = instruction.casefold()
    nouns = "|".join(word for word in CHATTER if word not in asked)
    if not nouns or is_chinese(text):
        return ""
    pattern = re.compile(rf"\b(?:{_POINTS})\W+(?:[\w-]+\W+){{0,3}}?(?:{nouns})s?\b", re.IGNORECASE)
    lines = [line for line in text.splitlines() if line.strip()]
    for line in (*lines[:HEAD_LINES], *lines[HEAD_LINES:][-TAIL_LINES:]):
        heading = _HEADING.search(line) if len(line.split()) <= _HEADING_WORDS else None
        is_heading = heading and heading[0].casefold().split()[-1] not in asked
        if is_heading or pattern.search(line) or _HANDED.search(line):
            return line[:200]
    return ""


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, as separated by blank lines."""
    return [part.strip("\n") for part in _BLANK.split(text.strip()) if part.strip()]


def first_half(text: str) -> str:
    """Return the first half of a text's paragraphs, or of its lines if it has at most two; at least one."""
    blocks = paragraphs(text)
    if len(blocks) <= 2:
        blocks = [line for line in text.splitlines() if line.strip()]
    return "\n\n".join(blocks[: max(1, len(blocks) // 2)])


def first_two_thirds(text: str, finish_reason: str = "stop") -> str:
    """Return the first two thirds of a text's paragraphs, at least one; "" if the only one is truncated."""
    blocks = paragraphs(text)
    if len(blocks) == 1 and finish_reason != "stop":
        return ""
    return "\n\n".join(blocks[: max(1, len(blocks) * 2 // 3)])


def join(beginning: str, rest: str) -> str:
    """Join a text and its continuation with one blank line."""
    return f"{beginning.rstrip()}\n\n{rest.strip()}"


def thinned(text: str, share: float, *key: object) -> str:
    """Drop a `share` of a text's lines, sampled by `key`; the gaps between the others stay as they are."""
    pieces = re.split(r"(\n\s*)", text.strip())
    lines, gaps = pieces[::2], [*pieces[1::2], ""]
    kept = [i for i in range(len(lines)) if unit_interval("thinned", *key, i) >= share] or [0]
    return "".join(lines[i] + (gaps[i] if i != kept[-1] else "") for i in kept)
