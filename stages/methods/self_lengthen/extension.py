"""Two-stage extension: expand a text's first half, then rewrite the whole from that beginning.

Asked to expand a text, a model tends to return one of its usual length. Shown how far the first half was
expanded, it writes the rest at the same ratio. Source: Self-Lengthen (Quan et al. 2024, arXiv 2410.23933).
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from pipeline.engines.base import Completion
from pipeline.errors import EngineError
from stages.methods.self_lengthen.lengths import words
from stages.methods.self_lengthen.long_texts import Problem, first_half, first_two_thirds, join, problem

# Takes the text to expand, the beginning of the reply, and the sample number.
Ask = Callable[[str, str, int], Awaitable[Completion]]


class Rules(NamedTuple):
    """How often to try, and the growth that counts as an extension."""

    micro_iterations: int
    attempts: int
    growth: float


class Extension(NamedTuple):
    """The longest text reached, in how many attempts, and why it is not accepted (None: it is)."""

    text: str
    attempts: int
    problem: Problem | None


async def extend(ask: Ask, instruction: str, draft: str, rules: Rules) -> Extension:
    """Extend a draft to more than `rules.growth` times its words, in steps that are each fit to train on."""
    for attempt in range(rules.attempts):
        best, why = await _attempt(ask, instruction, draft, attempt, rules)
        if words(best) > rules.growth * words(draft):
            return Extension(best, attempt + 1, None)
    return Extension(best, rules.attempts, why or _not_longer(draft, best))


async def _attempt(
    ask: Ask, instruction: str, draft: str, attempt: int, rules: Rules
) -> tuple[str, Problem | None]:
    """Extend the best text so far, again and again; return it with the last step's problem."""
    best, why = draft, None
    for step in range(rules.micro_iterations):
        try:
            longer, why = await _step(ask, instruction, best, attempt * rules.micro_iterations + step)
        except EngineError as e:
            if not e.refused:
                raise
            return best, ("request_refused", str(e))  # usually too long by now: keep what was reached
        if why is None:
            best = longer
    return best, why


async def _step(ask: Ask, instruction: str, text: str, number: int) -> tuple[str, Problem | None]:
    half = await ask(first_half(text), "", number)
    beginning = first_two_thirds(half.text, half.finish_reason)
    if not beginning:
        return text, ("no_beginning", "the expanded first half is blank, or a single truncated paragraph")
    rest = await ask(text, beginning, number)
    if not rest.text.strip():
        return text, ("no_ending", "nothing was written after the expanded first half")
    longer = join(beginning, rest.text)
    shorter = None if words(longer) > words(text) else _not_longer(text, longer)
    return longer, problem(longer, instruction, rest.finish_reason) or shorter


def _not_longer(before: str, after: str) -> Problem:
    return "not_longer", f"{words(before)} words became {words(after)}"
