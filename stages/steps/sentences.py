"""Where sentences end, in any script."""

import re
from collections import deque
from itertools import pairwise

# Full stops, question and exclamation marks of Latin and Greek; Chinese and Japanese; Hindi and its
# neighbours; Urdu, Persian, Arabic; Armenian; Ethiopic; Burmese; Khmer; Tibetan.
MARKS = (
    ".!?\u2026\u203c\u2047\u2048\u2049"
    "\u3002\uff0e\uff01\uff1f\uff61"
    "\u0964\u0965"
    "\u06d4\u061f"
    "\u0589\u055c\u055e"
    "\u1362\u1367\u1368"
    "\u104a\u104b"
    "\u17d4\u17d5"
    "\u0f0d\u0f0e"
)
CLOSERS = "\"')]}>`*_\u201d\u2019\u00bb\u300d\u300f\uff09\u3011\u300b\u3009"
# Thai and Lao have no mark: a space ends a clause or a sentence.
UNMARKED = "\u0e01-\u0e5b\u0e81-\u0edf"
# After these marks a space must follow, else they may be part of a number or a name.
_SPACED = ".!?\u2026"
_END = re.compile(
    rf"[{re.escape(_SPACED)}][{re.escape(CLOSERS)}]*(?=\s|\Z)"
    rf"|[{re.escape(MARKS.translate(dict.fromkeys(map(ord, _SPACED))))}][{re.escape(CLOSERS)}]*"
    rf"|(?<=[{UNMARKED}])(?=[ \n])"
)
_END_AND_SPACE = re.compile(rf"(?:{_END.pattern})\s*")


def whole_sentences(text: str) -> str:
    """Return a text up to the end of its last whole sentence, "" without one."""
    ends = deque(_END.finditer(text.rstrip()), maxlen=1)
    return text[: ends[0].end()] if ends else ""


def split(text: str) -> list[str]:
    """Divide `text` after each sentence and the white space that follows: joined, the sentences are `text`.

    Abbreviations are not known.
    """
    ends = [match.end() for match in _END_AND_SPACE.finditer(text)]
    cuts = [0, *(end for end in ends if 0 < end < len(text)), len(text)]
    return [text[start:end] for start, end in pairwise(cuts) if start < end]
