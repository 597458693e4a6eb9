"""Values of a source as text: numbers as they are written, and what is no text told."""

import math
from decimal import Decimal
from typing import Any

from stages.tasks.columns import readable
from stages.tasks.records import UnusableError, Written

BOXES = ("\\boxed", "\\fbox")


def text_of(value: Any, what: str, numbers: bool = True) -> str:
    """Return a text as it is and, with `numbers`, a number as it is written. Errors call it `what`."""
    value = readable(value, what)
    number = isinstance(value, Written | int | Decimal) or (isinstance(value, float) and math.isfinite(value))
    if not (numbers if number else isinstance(value, str)):
        expected = "a text or a number" if numbers else "a text"
        raise UnusableError(f"{what} is {json_type(value)}; expected {expected}")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text.strip():
        raise UnusableError(f"{what} is empty")
    if (nul := text.find("\0")) >= 0:
        raise UnusableError(f"{what} has a NUL character at position {nul + 1}; is the file text?")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise UnusableError(f"{what} has half of a surrogate pair at position {e.start + 1}") from None
    return text


def is_blank(value: Any) -> bool:
    """Tell whether a value is missing: null, white space, NaN (in tables), or a list of nothing else."""
    if isinstance(value, list | tuple):
        return all(map(is_blank, value))
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float) and math.isnan(value))
    )


def json_type(value: Any) -> str:
    """Return what JSON calls the type of a value, for error messages."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN, which stands for a missing value"
    if isinstance(value, Written) or type(value) in (int, float):
        return f"the number {str(value)[:80]}"
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null", str: "a text"}
    return names.get(type(value), f"a value of type {type(value).__name__}")


def marked(text: str, mark: str) -> str:
    r"""Return the answer after the last `mark` in a text: the rest of the line, or the next if that is empty.

    With the mark "boxed" it is what the last \boxed{} or \fbox{} holds. Raises UnusableError.
    """
    if mark == "boxed":
        if (answer := _last_box(text)) is None:
            raise UnusableError(r"there is no \boxed{} that is closed, which answer_mark: boxed asks for")
        return answer
    _, found, after = text.rpartition(mark)
    if not found:
        raise UnusableError(f"there is no {mark!r}, which answer_mark asks for")
    answer = next(iter(after.strip().splitlines()), "").strip()
    if not answer:
        raise UnusableError(f"nothing follows {mark!r}, where answer_mark expects the answer")
    return answer


def _last_box(text: str) -> str | None:
    at, box = max((text.rfind(box), box) for box in BOXES)
    if at < 0:
        return None
    rest = text[at + len(box) :]
    if not rest.lstrip().startswith("{"):  # "\boxed 5", as some solutions of MATH have it
        return rest.strip().split("$")[0].split("\n")[0].strip() or None
    depth, start, skip = 0, rest.index("{"), False
    for i, char in enumerate(rest):
        if skip or char == "\\":
            skip = not skip
        elif char in "{}":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return rest[start + 1 : i].strip() or None
    return None
