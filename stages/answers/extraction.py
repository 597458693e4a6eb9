"""Extract an answer from a text: strictly by its mark, or loosely by whatever may be meant."""

import re
from collections.abc import Callable, Sequence
from string import ascii_uppercase

from pipeline import thoughts
from stages.answers.choices import OPTION, TRUTH_VALUE
from stages.answers.compare import equal
from stages.answers.kinds import read
from stages.answers.marks import Extraction, Lines, Marked, last_marked
from stages.answers.reading import Options

_BOX = re.compile(
    r"\\{0,2}(?:boxed|fbox|framebox)\s*(?:\{(?P<braced>(?:[^{}\n]|\{[^{}\n]*\})*)\}?|(?P<bare>[^\s{}$.,;]+))"
)
_IS = r"(?:(?:is|are|=|:|would be|should be)[ \t*_]{0,8}){1,2}"
_STATED = re.compile(
    r"(?:####[ \t]*|\b(?:answer|result|solution|option|choice)\b[ \t*_]{0,8}"
    + _IS
    + r")(?P<answer>[^\n]{1,400})",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?;](?:\s|$)|\u3002|\s+(?:because|since)\s")
_NUMBER = re.compile(r"[-\u2212]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?%?")


def extract(
    text: str,
    answer_type: str,
    options: Options = None,
    marks: Sequence[str] = (),
    lines: Lines = "one",
) -> Extraction:
    r"""Return the marked final answer of `text` if it reads as one answer of `answer_type`.

    The mark is the last balanced `\boxed{...}`, `<answer>...</answer>` or line `Answer: ...`; `marks` are
    words to use instead of that one, and `lines` says how far the value goes on. Problems besides those of
    `marks.last_marked`: several_candidates ("12 of 40", "18 or 19"), not_a_number, not_a_boolean,
    not_a_choice, unknown_option, answer_too_long. Raises ValueError for an unknown answer type.
    """
    marked = last_marked(text, marks, lines)
    reading = read(marked.answer or "", answer_type, options)
    problem = marked.problem or reading.problem
    if not problem and _is_one_of_several(marked, reading.key, answer_type, options):
        problem = "several_candidates"
    return Extraction(None, problem) if problem else Extraction(reading.text, "")


def _is_one_of_several(marked: Marked, key: str, answer_type: str, options: Options) -> bool:
    rivals = [read(rival, answer_type, options) for rival in set(marked.rivals)]
    if any(rival.problem or rival.key != key for rival in rivals):
        return True
    other = read(marked.alternative, answer_type, options)
    if other.problem or other.key == key or answer_type == "text":
        return False
    if answer_type != "math":
        return True
    return bool(re.search(r"\d", other.text)) and not equal(other.text, marked.answer or "", "math")


def guess(text: str, answer_type: str, options: Options = None, marks: Sequence[str] = ()) -> str | None:
    """Return the answer that `text` most likely means, marked or not; None without any.

    For telling a model's ability from its format, in evaluation alone: what it finds may be a number on the
    way to the answer, so it verifies nothing that is trained on. In order: the mark, the last box in any
    form, "#### 18" and "the answer is 18", the last number, option or truth value.
    """
    if (marked := extract(text, answer_type, options, marks).answer) is not None:
        return marked
    text = thoughts.without(text)
    boxes = [match["braced"] or match["bare"] or "" for match in _BOX.finditer(text)]
    stated = [match["answer"] for match in _STATED.finditer(text)]
    for found in (*boxes[-1:], *(_SENTENCE_END.split(s, maxsplit=1)[0] for s in stated[-1:])):
        reading = read(found.replace("**", "").strip(" *_:"), answer_type, options)
        if not reading.problem:
            return reading.text
        if (last := _LAST.get(answer_type, _nothing)(found, options)) is not None:
            return last
    return _LAST.get(answer_type, _nothing)(text, options)


def _nothing(text: str, options: Options) -> str | None:
    return None


def _last_number(text: str, options: Options) -> str | None:
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None


def _last_option(text: str, options: Options) -> str | None:
    """Return the last letter that stands alone, or else the last option whose text occurs."""
    known = ascii_uppercase[: len(options)] if options else ascii_uppercase
    letters = [found for match in OPTION.finditer(text) if (found := (match[1] or match[2]).upper()) in known]
    if letters:
        return letters[-1]
    places = [(text.lower().rfind(option.lower()), option) for option in options or []]
    place, option = max(places, default=(-1, ""))
    return option if place >= 0 else None


def _last_truth_value(text: str, options: Options) -> str | None:
    values = TRUTH_VALUE.findall(text)
    return values[-1] if values else None


_LAST: dict[str, Callable[[str, Options], str | None]] = {
    "number": _last_number,
    "fraction": _last_number,
    "percentage": _last_number,
    "choice": _last_option,
    "boolean": _last_truth_value,
}
