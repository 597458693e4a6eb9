"""Extract an answer, compare two, key one for a vote, check a ground truth."""

from collections.abc import Sequence

from stages.answers import numeric, symbolic
from stages.answers.kinds import read
from stages.answers.marks import Extraction, last_marked


def extract(text: str, answer_type: str, options: Sequence[str] | None = None) -> Extraction:
    r"""Return the marked final answer of `text` if it reads as one answer of `answer_type`.

    The mark is the last balanced `\boxed{...}` or line `Answer: ...`. Problems besides those of
    `marks.last_marked`: several_candidates ("12 of 40", "18 or 19"), not_a_number, not_a_boolean,
    not_a_choice, unknown_option, answer_too_long. Raises ValueError for an unknown answer type.
    """
    marked = last_marked(text)
    reading = read(marked.answer or "", answer_type, options)
    problem = marked.problem or reading.problem
    return Extraction(None, problem) if problem else Extraction(reading.text, "")


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
