"""What texts of phase 1 must not be: feedback that quotes the truth it was shown, or a refinement without
working.

A step worked out ("20 - 5 is 15, but the answer has 25") is no quotation: a critic that is shown no truth can
write it too.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from stages import answers

MAX_QUOTES, MAX_ENDS = 50, 4  # looked at in a text, and in a phrase: more of them is a loop

_RIGHT = r"(?:right|correct|true|actual|real|proper|expected|intended|reference)"
_RESULT = r"(?:answer|result|solution|value|number|total|sum|option|choice)"
_QUOTED = re.compile(
    rf"\b{_RIGHT}\s+(?:final\s+)?{_RESULT}\b(?:\s+[\w-]+){{0,4}}?\s*(?:\b(?:is|was|be|been|equals)\b|[:=])"
    r"|\b(?:answer|result|solution)\s+(?:should|must|has\s+to|needs\s+to|ought\s+to)\s+(?:be|have\s+been|equal)\b"
    r"|\bcomes?\s+to\b",
    re.IGNORECASE,
)
_CALLED_RIGHT = re.compile(
    rf"(?P<said>[^\s,;:]{{1,60}})\s+(?:is|was|would\s+be)\s+the\s+{_RIGHT}\s+(?:final\s+)?{_RESULT}\b",
    re.IGNORECASE,
)
_TOLD = re.compile(
    r"\b(?:the|this|your)\s+(?:note|hint)\b|\b(?:I|we)\s+(?:am|was|are|were|have\s+been)\s+told\b"
    r"|\b(?:expected|reference|known)\s+(?:final\s+)?(?:answer|result|solution)\b",
    re.IGNORECASE,
)
_ENDS = re.compile(r"[.;!?](?:\s|$)|,\s|\s(?:and|so|but|not|which|because|while|instead|as|than)\s|\s\(|\n")
_LEAD = frozenset(
    (
        "the",
        "a",
        "final",
        "answer",
        "result",
        "is",
        "so",
        "therefore",
        "thus",
        "hence",
        "boxed",
        "text",
        "option",
    )
)
_LEAD_CHINESE = frozenset(["答案", "答案是", "答案为", "所以", "因此"])


def quotes_truth(feedback: str, verdict: bool, task: dict[str, Any]) -> str:
    """Return the phrase in which a feedback quotes the truth it was shown, or refers to being shown it; ""
    without one.

    `task` is the task's payload, `verdict` what the feedback says of the answer: with a positive one, "12 is
    the right answer" approves of what the answer says.
    """
    if told := _TOLD.search(feedback):
        return told[0]
    for phrase, said in islice(_said(feedback, verdict), MAX_QUOTES * (MAX_ENDS + 1)):
        if _same(said, task):
            return f"{phrase} {said}"
    return ""


def _said(feedback: str, verdict: bool) -> Iterator[tuple[str, str]]:
    """Yield phrases that announce a right answer, each with what may be it."""
    for match in islice(_QUOTED.finditer(feedback), MAX_QUOTES):
        rest = feedback[match.end() : match.end() + 200].split("\n\n")[0]
        ends = [end.start() for end in islice(_ENDS.finditer(rest), MAX_ENDS)]
        for end in dict.fromkeys((*ends, len(rest))):
            if said := rest[:end].strip(" \t\n:="):
                yield match[0], said
    if not verdict:
        for match in islice(_CALLED_RIGHT.finditer(feedback), MAX_QUOTES):
            yield "called right:", match["said"]


def _same(said: str, task: dict[str, Any]) -> bool:
    truth, kind, options = str(task["answer"]), task["answer_type"], task.get("options")
    if answers.check_truth(truth, kind, options):
        kind = "text"  # only the task's own scorer knows what its answer means
    return answers.equal(said, truth, kind, options)


def is_bare(text: str) -> bool:
    """Tell whether a text is a marked final answer and nothing else."""
    answer = answers.extract(text, "text").answer
    if answer is None:
        return False
    words = re.findall(r"[^\W_]+", text.replace(answer, " ").casefold())
    return not {*words} - _LEAD - _LEAD_CHINESE - {*re.findall(r"[^\W_]+", answer.casefold())}
