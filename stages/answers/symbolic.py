"""Computer algebra on what a model wrote: within a budget, and remembered."""

from functools import lru_cache
from typing import Any

from pipeline.limited import CallError, call

MAX_CHARS = 1000  # longer expressions are compared as text only


def same_value(a: str, b: str) -> bool:
    """Tell whether two LaTeX expressions are mathematically equal. Symmetric; False when that cannot be found out within the budget."""
    return max(len(a), len(b)) <= MAX_CHARS and bool(_ask("equal", *sorted((a, b))))


def canonical(expression: str) -> str:
    """Return one spelling of an expression: expanded, in sympy's notation; '' when it cannot be read within the budget."""
    return (_ask("canonical", expression) or "") if len(expression) <= MAX_CHARS else ""


@lru_cache(maxsize=4096)
def _ask(operation: str, *expressions: str) -> Any:
    try:
        return call(f"stages.answers.algebra:{operation}", *expressions)
    except (
        CallError
    ):  # sympy and its parser raise anything: such an expression equals nothing but its own text
        return None
