"""Cached computer algebra on model output, within a CPU budget."""

from functools import lru_cache
from typing import Any

from pipeline.limited import CallError, call

MAX_CHARS = 1000  # longer expressions are compared as text only


def same_value(a: str, b: str) -> bool:
    """Tell whether two LaTeX expressions are equal. Symmetric; False if undecided within the budget."""
    return max(len(a), len(b)) <= MAX_CHARS and bool(_ask("equal", *sorted((a, b))))


def canonical(expression: str) -> str:
    """Return an expression expanded, in sympy's notation; '' if it cannot be read within the budget."""
    return (_ask("canonical", expression) or "") if len(expression) <= MAX_CHARS else ""


@lru_cache(maxsize=4096)
def _ask(operation: str, *expressions: str) -> Any:
    try:
        return call(f"stages.answers.algebra:{operation}", *expressions)
    except CallError:  # sympy and its parser raise anything; such an expression equals only its own text
        return None
