"""Tell a thinking model's thoughts from its answer, in a text that holds both."""

import re
from typing import NamedTuple

# How public models delimit thoughts: Qwen3, DeepSeek-R1, GLM and others; Claude-like; Magistral; Seed-OSS;
# Sky-T1; Kimi; gpt-oss (its final channel ends the thought); Gemma 4.
TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ("<|channel>thought", "<channel|>"),
)
MARKS = tuple(mark for tags in TAGS for mark in tags)
_OPEN, _CLOSE = ("|".join(re.escape(tag) for tag in side) for side in zip(*TAGS, strict=True))
_BEGUN_IN_PROMPT = re.compile(f"^.*(?:{_CLOSE})", re.DOTALL)
_UNFINISHED = re.compile(f"(?:{_OPEN}).*$", re.DOTALL)
_CLOSING = frozenset(close for _, close in TAGS)
_ANY = re.compile(f"{_OPEN}|{_CLOSE}")


class Split(NamedTuple):
    """A text's `answer`, and its `thought` with the tags around it ("" without one)."""

    thought: str
    answer: str


def split(text: str) -> Split:
    """Divide `text`. A thought may have been opened by the prompt, and may be cut off: the answer is then
    what stands before it.
    """
    if not occurs(text):
        return Split("", text)
    thoughts, text = _whole(text)

    def take(match: re.Match[str]) -> str:
        thoughts.append(match[0])
        return ""

    for pattern in (_BEGUN_IN_PROMPT, _UNFINISHED):
        text = pattern.sub(take, text)
    return Split("".join(thoughts), text)


def without(text: str) -> str:
    """Return the answer in `text`, without thoughts and outer white space."""
    return split(text).answer.strip()


def occurs(text: str) -> bool:
    """Tell whether a thought begins or ends in `text`."""
    return _ANY.search(text) is not None


def begins(text: str) -> bool:
    """Tell whether `text` begins with a thought: its opening tag, or a closing one that the prompt opened."""
    first = _ANY.search(text)
    return first is not None and (first[0] in _CLOSING or not text[: first.start()].strip())


def unfinished(text: str) -> bool:
    """Tell whether `text` ends within a thought."""
    return _UNFINISHED.search(_whole(text)[1]) is not None


def inner(thought: str) -> str:
    """Return a thought without its tags."""
    return _ANY.sub("", thought).strip()


def _whole(text: str) -> tuple[list[str], str]:
    """Return the thoughts that are opened and closed, and the rest, in time linear in `text`."""
    thoughts, rest, at, unclosed = [], [], 0, set()
    for opening in re.finditer(_OPEN, text):
        if opening.start() < at or opening[0] in unclosed:
            continue
        close = dict(TAGS)[opening[0]]
        if (end := text.find(close, opening.end())) < 0:
            unclosed.add(opening[0])
            continue
        rest.append(text[at : opening.start()])
        at = end + len(close)
        thoughts.append(text[opening.start() : at])
    return thoughts, "".join((*rest, text[at:]))
