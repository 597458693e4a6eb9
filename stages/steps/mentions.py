"""References in a solution to what only its prompt showed: a plan, a feedback, a given answer.

Training asks the plain question, so a solution has to stand alone. The patterns are conservative: "the
structure of the equation" is no reference, nor is a noun that the question uses itself ("a phone plan").
"""

import re
from typing import Literal

LEAD_INS, LEAD_IN = 2, 200  # lines, characters of one

What = Literal["plan", "feedback", "hint"]

_THE = r"(?:the|this|that|these|our|your|my)\s+(?:[\w-]+\s+){0,2}?"
_PLAN = rf"{_THE}(?P<noun>plan|structure|guidelines?|guidance|outline|notes|advice)\b(?!\s+(?:of|for)\b)"
_FOLLOW = (
    r"follow(?:s|ed|ing)?|according\s+to|based\s+on|(?:as\s+)?per|us(?:e|ing)|appl(?:y|ying)|stick(?:ing)?\s+to"
    r"|in\s+(?:line|accordance)\s+with|adher(?:e|ing)\s+to|guided\s+by"
)
_PUT = (
    r"(?:steps?|points?|items?|described|outlined|stated|given|mentioned|provided|listed|laid\s+out)\s+\d*\s*"
)
_SAYS = r"says?|states?|suggests?|requires?|asks?|tells?|calls\s+for|instructs?|recommends?|indicates?"
_GIVEN = r"given|provided|stated|known|expected|reference"

_PATTERNS: dict[What, tuple[str, ...]] = {
    "plan": (
        rf"\b(?:{_FOLLOW})\s+{_PLAN}",
        rf"\b{_PUT}(?:in|of|from|by)\s+{_PLAN}",
        rf"\b{_PLAN}\s+(?:{_SAYS}|above|provided)\b",
        r"(?:按照|根据|依照|遵循)(?:上述|上面的?|这个|该|给定的?|以上的?)?(?P<noun>计划|结构|指南|大纲|指导)",
    ),
    "feedback": (
        rf"\b{_THE}(?P<noun>feedback|critique)\b",
        r"\b(?:previous|earlier|original|initial|first)\s+(?P<noun>answer|solution|response)\s+"
        r"(?:was|is|sa(?:id|ys)|had|has|made|contain(?:s|ed)|gave|incorrectly|mistakenly)\b",
        r"\b(?P<noun>corrected|revised)\s+(?:answer|solution|version)\b",
        r"\bI\s+(?P<noun>apologi[sz]e)\b",
        r"\b(?:wrong|incorrect)\s+(?P<noun>step)\s+(?:\w+\s+)?(?:mended|fixed|corrected)\b",
        r"(?:按照|根据)(?:上述|上面的?|这个|该|您的|你的)?(?P<noun>反馈)",
    ),
    "hint": (
        rf"\b(?:the|our|your)\s+(?P<noun>{_GIVEN})\s+(?:final\s+)?(?:answer|result|solution)\b",
        rf"\b(?:answer|result|solution)\s+(?:that\s+)?(?:is|was|were|we\s+(?:are|were)|I\s+was)\s+(?P<noun>{_GIVEN})\b",
        r"\b(?:we|I)\s+(?:already\s+)?(?:know|(?:are|were|was|am)\s+(?P<noun>told|given))\s+(?:that\s+)?the\s+"
        r"(?:right\s+|correct\s+|final\s+)?(?:answer|result)\b",
        r"\b(?:the|this)\s+(?P<noun>hint)\b",
        r"(?:已知|给定的?)(?P<noun>答案)",
    ),
}
_COMPILED = {what: [re.compile(p, re.IGNORECASE) for p in patterns] for what, patterns in _PATTERNS.items()}


def mention(what: What, text: str, question: str = "") -> str:
    """Return the first phrase in which `text` refers to `what`, "" without one.

    Phrases whose noun is in the `question` are none.
    """
    asked = question.casefold()
    for pattern in _COMPILED[what]:
        for match in pattern.finditer(text):
            noun = (
                (match["noun"] or "").casefold().removesuffix("s")
            )  # the question may have the other number
            if not noun or noun not in asked:
                return " ".join(match[0].split())
    return ""


def without_lead_in(what: What, text: str, question: str = "") -> str:
    """Return `text` without first lines that introduce or head it with a reference to `what`, such as "Here
    is the corrected solution:". Without them it may stand alone.
    """
    for _ in range(LEAD_INS):
        line, _, rest = text.lstrip().partition("\n")
        bare = line.strip().strip("*_#: \t\uff1a")
        introduces = line.rstrip(" *_").endswith((":", "\uff1a")) or line.startswith(("#", "**"))
        if not rest.strip() or not introduces or len(bare) > LEAD_IN or not mention(what, bare, question):
            return text
        text = rest.lstrip("\n")
    return text
