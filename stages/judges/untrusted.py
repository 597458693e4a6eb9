"""Texts that a judged model wrote, made safe to show to the model that judges them.

An answer may say "score: 10", close the part of the prompt that holds it, or spell out tokens that end a
turn. A judgement is read from the judge's own reply alone (reading.py); here the answer is kept in its place.
"""

import re
from collections.abc import Mapping
from typing import Any

from pipeline.ids import digest

# Tokens that delimit turns or thoughts in public chat templates, as a tokenizer would find them in a text.
_TOKENS = re.compile(
    r"<(?=\|[^<>|\n]{1,40}\|>|/?s>|/?(?:start|end)_of_turn>|/?think>|\uff5c)|\[(?=/?INST\])|<(?=</?SYS>>)",
    re.IGNORECASE,
)


def defused(text: str) -> str:
    """Return a text without control tokens: a space after the bracket leaves them readable, and no tokens."""
    return _TOKENS.sub(lambda found: f"{found[0]} ", text)


def asked(payload: Mapping[str, Any]) -> str:
    """Return a task's question, after the turns of the conversation before it, to be shown to a judge."""
    turns = payload.get("turns") or ()
    before = [f"[{turn['role']}]\n{turn['content']}" for turn in turns]
    question = payload["question"]
    return defused("\n\n".join([*before, f"[user]\n{question}" if before else question]))


def fence(*texts: str) -> str:
    """Return a line that stands before and after untrusted texts, and that none of them contains."""
    number, mark = 0, ""
    while not mark or any(mark in text for text in texts):
        mark, number = f"=== {digest([*texts, number])[:12]} ===", number + 1
    return mark
