"""Two-stage extension: a text's first half is expanded, and the whole is rewritten from that beginning. Source: Self-Lengthen 1.7.

A model asked to expand a text tends to return one of about the length it always returns. Shown how far the first half of its
source was expanded, it writes the rest at the same ratio.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from pipeline.engines.base import Completion
from pipeline.errors import EngineError
from stages.methods.self_lengthen.lengths import words
from stages.methods.self_lengthen.long_texts import first_half, first_two_thirds, join, problem

Ask = Callable[
    [str, str, int], Awaitable[Completion]
]  # the text to expand, the beginning of the reply, the number of the sample


class Rules(NamedTuple):
    """How often an extension is tried, and when it is one."""

    micro_iterations: int
    attempts: int
    growth: float


class Extension(NamedTuple):
    """The longest text that was reached, in how many attempts, and why it is not accepted (None: it is)."""

    text: str
    attempts: int
    problem: tuple[str, str] | None


async def extend(ask: Ask, instruction: str, draft: str, rules: Rules) -> Extension:
    """Return the draft's extension: more than `rules.growth` times its words, every step of the way fit to learn from."""
    best, why = draft, None
    for attempt in range(rules.attempts):
        best, why = await _attempt(ask, instruction, draft, attempt, rules)
        if words(best) > rules.growth * words(draft):
            return Extension(best, attempt + 1, None)
    return Extension(
        best, rules.attempts, why or ("not_longer", f"{words(draft)} words became {words(best)}")
    )


async def _attempt(
    ask: Ask, instruction: str, draft: str, attempt: int, rules: Rules
) -> tuple[str, tuple[str, str] | None]:
    """Extend again and again from the best so far; return it, and what was wrong with the last step."""
    best, why = draft, None
    for step in range(rules.micro_iterations):
        try:
            found, why = await _two_stages(ask, instruction, best, attempt * rules.micro_iterations + step)
        except EngineError as e:
            if not e.refused:
                raise
            return best, (
                "request_refused",
                str(e),
            )  # too long by now, as a rule: what was reached so far stands
        if why is None:
            best = found
    return best, why


async def _two_stages(
    ask: Ask, instruction: str, text: str, number: int
) -> tuple[str, tuple[str, str] | None]:
    half = await ask(first_half(text), "", number)
    beginning = first_two_thirds(half.text, half.finish_reason)
    if not beginning:
        return text, (
            "no_beginning",
            "the expanded first half is blank, or a single paragraph that was cut off",
        )
    rest = await ask(text, beginning, number)
    if not rest.text.strip():
        return text, ("no_ending", "nothing was written after the expanded first half")
    found = join(beginning, rest.text)
    shorter = (
        None if words(found) > words(text) else ("not_longer", f"{words(text)} words became {words(found)}")
    )
    return found, problem(found, instruction, rest.finish_reason) or shorter
