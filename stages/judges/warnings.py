"""When a judge's verdicts are not to be trusted, in a sentence each."""

from collections.abc import Iterator
from typing import Any

MIN_ASKED = 20  # with fewer, approving all of them may be chance
APPROVES, UNREADABLE = 0.95, 0.1  # shares from which on something is wrong
LENGTH = 0.5  # rank correlation of score and length
CONSISTENT, FIRST = 0.6, 0.65  # of comparisons in both orders; of preferences for the first one shown


def warnings(label: str, facts: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a verifier that asks a model."""
    if facts["asked"] < MIN_ASKED:
        return
    share = facts["approved_share"]  # None: no threshold of its own decides
    if share is not None and share >= APPROVES:
        yield f"{label} approves of nearly everything: it filters nothing"
    if share == 0:
        yield f"{label} approves of nothing"
    if facts["distinct_scores"] == 1:
        yield f"{label} gives every answer the same score"
    if facts["unreadable_share"] >= UNREADABLE:
        yield f"{facts['unreadable_share']:.0%} of the judgements of {label} cannot be read"
    length = facts["length"]
    if length and abs(length["mean"]) >= LENGTH and length.get("low", 0) * length.get("high", 0) > 0:
        yield f"{label} prefers {'long' if length['mean'] > 0 else 'short'} answers"
    found = (facts.get("agreement") or {}).get("auc")
    if found and found.get("low", 1) <= 0.5:
        yield f"by the known answers, {label} does not tell right from wrong"
    yield from _order(label, facts.get("order"))


def _order(label: str, order: dict[str, Any] | None) -> Iterator[str]:
    if not order or order["comparisons"] < MIN_ASKED:
        return
    if order["consistent"] and order["consistent"]["mean"] < CONSISTENT:
        yield f"{label} contradicts itself: in the other order it mostly says something else"
    first = order["first_shown"]
    if first is not None and not 1 - FIRST < first < FIRST:
        yield f"{label} prefers the answer that is shown {'first' if first > 0.5 else 'last'}"
