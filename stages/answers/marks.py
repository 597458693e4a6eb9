"""Where the final answer stands in a text, and how one is written so that it is found again."""

import re
from collections import deque
from typing import NamedTuple

MAX_ANSWER_CHARS = 4096  # longer is not an answer; it also bounds the cost of everything done with one


class Extraction(NamedTuple):
    """An answer as text, or None and a short snake_case name of what was wrong ('' when nothing was)."""

    answer: str | None
    problem: str


# A second backslash is let pass: models that imitate JSON write `\\boxed`. Other escapes are skipped, so that `\{` is no brace.
_BRACES = re.compile(r"\\\\?boxed\s*\{|\\.|[{}]", re.DOTALL)
_LINE = re.compile(
    r"^[ \t>#*_-]*+(?:the[ \t]+)?(?:final[ \t]+)?answer(?:[ \t]+is)?[ \t]*(?:\*\*)?[ \t]*[:\uff1a][ \t]*(?:\*\*)?(?P<answer>[^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
_WRAPPERS = (("**", "**"), ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("`", "`"))
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")


def last_marked(text: str) -> Extraction:
    r"""Return the text of the last mark: a balanced `\boxed{...}`, or a line that starts with `Answer:` or `Final answer:`.

    The mark that begins later wins, whatever its kind: it is what the model said last, and in `Answer: \boxed{5}` that is
    the box. There is no fallback to the whole text (ReGenesis, fault 5). Problems: no_marked_answer, unbalanced_box (a box
    was opened, none was closed, and there is no other mark), empty_answer, answer_too_long.
    """
    box, opened = _last_box(text)
    lines = deque(_LINE.finditer(text), maxlen=1)
    if lines and (box is None or lines[0].start() > box[0]):
        answer = _without_odd_bold(lines[0]["answer"])
    elif box is not None:
        answer = text[box[1] : box[2]]
    else:
        return Extraction(None, "unbalanced_box" if opened else "no_marked_answer")
    if len(answer) > MAX_ANSWER_CHARS:
        return Extraction(None, "answer_too_long")
    answer = unwrap(answer)
    return Extraction(answer, "") if answer else Extraction(None, "empty_answer")


def on_a_line(text: str) -> bool:
    r"""Tell whether the last mark is a line `Answer: ...`, be there a box on it or not."""
    box, _ = _last_box(text)
    lines = deque(_LINE.finditer(text), maxlen=1)
    return bool(lines) and (box is None or lines[0].end() > box[0])


def mark(answer: str) -> str:
    r"""Return the line "Answer: ..." that `extract` reads `answer` back from.

    An answer of several lines (a grid) is put in a box, which keeps its lines; without balanced braces it goes on one line.
    """
    answer = answer.strip()
    if "\n" in answer:
        boxed = f"\\boxed{{{answer}}}"
        if last_marked(boxed).answer == unwrap(answer):
            return f"Answer: {boxed}"
    return f"Answer: {' '.join(answer.split())}"


def unwrap(text: str) -> str:
    r"""Return `text` without surrounding white space, bold, code and math delimiters, or one `\text{...}` around all of it."""
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


def _last_box(text: str) -> tuple[tuple[int, int, int] | None, bool]:
    """Return (start, start of content, end of content) of the balanced box that starts last, and whether any was opened."""
    last, opened = None, False
    open_braces: list[tuple[int, int] | None] = []  # None for a brace that opens no box
    for token in _BRACES.finditer(text):
        if token[0] == "{":
            open_braces.append(None)
        elif token[0] == "}":
            box = open_braces.pop() if open_braces else None
            if box and (last is None or box[0] > last[0]):
                last = (*box, token.start())
        elif token[0].endswith("{") and "boxed" in token[0]:
            opened = True
            open_braces.append((token.start(), token.end()))
    return last, opened


def _without_odd_bold(line: str) -> str:
    """Drop the closing stars of `**Answer: 42**`, whose opening ones stand before the mark."""
    line = line.strip()
    return line.removesuffix("**") if line.count("**") % 2 else line
