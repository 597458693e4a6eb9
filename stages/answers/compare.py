"""Compare two answers, key one for a vote, check a ground truth."""

from collections.abc import Sequence

from stages.answers import numeric, symbolic
from stages.answers.kinds import read


def difference(pred: str, truth: str, answer_type: str, options: Sequence[str] | None = None) -> str:
    """Return why `pred` is not equal to `truth`: '' if it is.

    wrong: both are read, and have different values. not_comparable: that they differ is not certain, such as
    70% and 70, or mathematics that is not understood. Otherwise the problem of the one that cannot be read.
    Symmetric but for the last.
    """
    left, right = read(pred, answer_type, options), read(truth, answer_type, options)
    if problem := left.problem or right.problem:
        return problem
    if answer_type == "math":
        return symbolic.difference(left.text, right.text)
    if answer_type in ("number", "fraction", "percentage"):
        return numeric.difference(left.text, right.text, in_percent=answer_type == "percentage")
    return "" if left.key == right.key else "wrong"


def equal(pred: str, truth: str, answer_type: str, options: Sequence[str] | None = None) -> bool:
    """Tell whether two answers have the same value. Symmetric; False if either cannot be read."""
    return not difference(pred, truth, answer_type, options)


def normalized(pred: str, answer_type: str, options: Sequence[str] | None = None) -> str:
    """Return a key that equal answers share, for counting votes; '' if `pred` cannot be read.

    For math, which `equal` does not compare by key, "x = 5" and 5 share one, and 5 cm and 5 do not.
    """
    reading = read(pred, answer_type, options)
    if reading.problem or answer_type != "math":
        return reading.key
    return symbolic.canonical(reading.text)


def check_truth(truth: str, answer_type: str, options: Sequence[str] | None = None) -> str:
    """Return the problem with a ground truth ('' if none); a source rejects it before generation."""
    return read(truth, answer_type, options).problem
