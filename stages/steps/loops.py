"""How much of a text repeats: tells a degenerate loop from steps that are worded alike.

A passage counts that follows itself at once and word for word, and a sentence from the third time it is said.
Steps of one pattern ("When the die shows 3, the sum is 8.") differ in their numbers and count as new. Lengths
are in bytes of UTF-8, of which a Chinese character takes three: about what it says, compared to a letter.
"""

import re
from collections import Counter
from typing import NamedTuple

TOLERATED = 2  # times that a sentence may be said: in the working, and again at the end

_SENTENCE_ENDS = re.compile(r"\n|(?<=[.!?;])\s|(?<=[\u3002\uff01\uff1f\uff1b])")
# "Step 12:", "(12)", "12." and the like: a loop that counts its rounds repeats all the same.
_LABEL = re.compile(r"\A\W*(?:(?:[^\W\d]+\s+)?\(?\d+\s*[.):\uff1a]|\u7b2c\s*\w{1,3}?\u6b65)[\W_]*")


class Repetition(NamedTuple):
    """The share of a text that repeats, and what repeats most."""

    share: float
    passage: str


def repetition(text: str, shortest: int) -> Repetition:
    """Return how much of `text` repeats, in passages of at least `shortest` bytes. Linear time."""
    data = "".join(f"{word} " for word in text.split()).encode("utf-8", "surrogatepass")
    if not data:
        return Repetition(0.0, "")
    again, passage = max(_contiguous(data, shortest), _sentences(text, shortest))
    return Repetition(min(1.0, again / len(data)), passage)


def _contiguous(data: bytes, shortest: int) -> tuple[int, str]:
    """Return how many bytes repeat what stands right before them, and the longest repeated passage.

    Without a letter it is data, such as a grid of digits or a ruler, and does not count.
    """
    last: dict[bytes, int] = {}  # where a run of `shortest` bytes began last
    again, longest, free = 0, b"", 0
    for start in range(len(data) - shortest + 1):
        run = data[start : start + shortest]
        before, last[run] = last.get(run), start
        if before is None or start < free:
            continue
        period, end = start - before, start + shortest
        while end < len(data) and data[end] == data[end - period]:
            end += 1
        passage = data[before:start]
        if loops := end - start >= period and any(c.isalpha() for c in _text(passage)):
            again += end - start
            longest = max(longest, passage, key=len)
        free = end if loops else end - shortest + 1
    return again, _text(longest)


def _sentences(text: str, shortest: int) -> tuple[int, str]:
    """Return how many bytes are in sentences that were said TOLERATED times before, and the most frequent."""
    said = Counter[str]()
    again = 0
    for sentence in _SENTENCE_ENDS.split(text):
        key = " ".join(_LABEL.sub("", sentence, count=1).split()).casefold()
        size = len(key.encode("utf-8", "surrogatepass"))
        if size >= shortest and any(c.isalpha() for c in key):
            said[key] += 1
            again += size if said[key] > TOLERATED else 0
    return again, max(said, key=lambda key: said[key], default="")


def _text(passage: bytes) -> str:
    return passage.decode("utf-8", "ignore")
