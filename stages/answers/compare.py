"""Compare two answers, key one for a vote, check a ground truth."""

import re
from collections.abc import Sequence

from stages.answers import symbolic
from stages.answers.kinds import Reading, is_prose, read
from stages.answers.numeric import read_number

_NUMBER_COMMANDS = re.compile(r"\\(?:[dtc]?frac|times|cdot)")


def equal(pred: str, truth: str, answer_type: str, options: Sequence[str] | None = None) -> bool:
    """Tell whether two answers have the same value. Symmetric; False if either cannot be read."""
    left, right = read(pred, answer_type, options), read(truth, answer_type, options)
    if left.problem or right.problem:
        return False
    if left.key == right.key or answer_type != "math":
        return left.key == right.key
    if is_prose(left.text) or is_prose(right.text):
        return False
    if (a := _plain_number(left)) and (b := _plain_number(right)):
        return a == b  # exact, whereas math-verify rounds to six decimals
    return symbolic.same_value(left.text, right.text)


def normalized(pred: str, answer_type: str, options: Sequence[str] | None = None) -> str:
    """Return a key that equal answers share, for counting votes; '' if `pred` cannot be read.

    For math, which `equal` does not compare by key, it is the expanded form: equal expressions whose
    expansions differ count as different votes.
    """
    reading = read(pred, answer_type, options)
    if reading.problem or answer_type != "math" or is_prose(reading.text):
        return reading.key
    return _plain_number(reading) or symbolic.canonical(reading.text) or reading.key


def check_truth(truth: str, answer_type: str, options: Sequence[str] | None = None) -> str:
    """Return the problem with a ground truth ('' if none); a source rejects it before generation."""
    return read(truth, answer_type, options).problem


def _plain_number(reading: Reading) -> str:
    """Return the value of a math answer that is a bare number, else ''. Letters are variables, not units."""
    if any(c.isalpha() for c in _NUMBER_COMMANDS.sub("", reading.text)):
        return ""
    number = read_number(reading.text)
    return "" if isinstance(number, str) else number.key
