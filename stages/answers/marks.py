"""Find the marked final answer in a text, and mark one so that it is found."""

import re
from collections import deque
from typing import NamedTuple

MAX_ANSWER_CHARS = 4096  # bounds the cost of everything done with an answer


class Extraction(NamedTuple):
    """An answer, or None and the problem as a snake_case name ('' if there is none)."""

    answer: str | None
    problem: str


# A second backslash is allowed, since models that imitate JSON write `\\boxed`. Other escapes are skipped, so
# that `\{` is no brace.
_BRACES = re.compile(r"\\\\?boxed\s*\{|\\.|[{}]", re.DOTALL)
_LINE = re.compile(
    r"^[ \t>#*_-]*+(?:the[ \t]+)?(?:final[ \t]+)?answer(?:[ \t]+is)?[ \t]*(?:\*\*)?[ \t]*"
    r"[:\uff1a][ \t]*(?:\*\*)?(?P<answer>[^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
_WRAPPERS = (("**", "**"), ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("`", "`"))
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")


def last_marked(text: str) -> Extraction:
    r"""Return the text of the last mark: a balanced `\boxed{...}`, or a line starting with `Answer:` or
    `Final answer:`.

    The mark that starts later wins, whatever its kind, as it is the model's last word; in `Answer: \boxed{5}`
    that is the box. Problems: no_marked_answer, unbalanced_box (a box is opened, none is closed, and there is
    no other mark), empty_answer, answer_too_long.
    """
    box, line, opened = _last_marks(text)
    if line and (box is None or line.start() > box[0]):
        answer = line["answer"].strip()
        if answer.count("**") % 2:  # the closing stars of `**Answer: 42**`
            answer = answer.removesuffix("**")
    elif box is not None:
        answer = text[box[1] : box[2]]
    else:
        return Extraction(None, "unbalanced_box" if opened else "no_marked_answer")
    if len(answer) > MAX_ANSWER_CHARS:
        return Extraction(None, "answer_too_long")
    answer = unwrap(answer)
    return Extraction(answer, "") if answer else Extraction(None, "empty_answer")


def on_a_line(text: str) -> bool:
    r"""Tell whether the last mark is an `Answer: ...` line, with or without a box on it."""
    box, line, _ = _last_marks(text)
    return line is not None and (box is None or line.end() > box[0])


def mark(answer: str) -> str:
    r"""Return the line "Answer: ..." from which `extract` reads `answer` back.

    Several lines (a grid) go into a box, which keeps them; with unbalanced braces they become one line.
    """
    answer = answer.strip()
    if "\n" in answer:
        boxed = f"\\boxed{{{answer}}}"
        if last_marked(boxed).answer == unwrap(answer):
            return f"Answer: {boxed}"
    return f"Answer: {' '.join(answer.split())}"


def unwrap(text: str) -> str:
    r"""Strip white space, bold, code and math delimiters, and a `\text{...}` around the whole of `text`."""
    before = None
    while text != before and len(text) <= MAX_ANSWER_CHARS:
        before, text = text, text.strip()
        for left, right in _WRAPPERS:
            inner = text[len(left) : -len(right)]
            if inner and text == left + inner + right and left not in inner:
                text = inner
        if whole := _TEXT_COMMAND.fullmatch(text):
            text = whole[1]
    return text


def _last_marks(text: str) -> tuple[tuple[int, int, int] | None, re.Match[str] | None, bool]:
    """Return the last balanced box (start, content start, content end), the last `Answer:` line, and whether
    any box is opened."""
    box, opened = None, False
    open_braces: list[tuple[int, int] | None] = []  # None for a brace that opens no box
    for token in _BRACES.finditer(text):
        if token[0] == "{":
            open_braces.append(None)
        elif token[0] == "}":
            closed = open_braces.pop() if open_braces else None
            if closed and (box is None or closed[0] > box[0]):
                box = (*closed, token.start())
        elif token[0].endswith("{") and "boxed" in token[0]:
            opened = True
            open_braces.append(token.span())
    line = deque(_LINE.finditer(text), maxlen=1)
    return box, line[0] if line else None, opened
