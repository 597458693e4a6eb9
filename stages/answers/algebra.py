"""Mathematical equality with math-verify. Without a time limit: call through pipeline.limited only."""

import sympy
from math_verify import parse, verify
from sympy.matrices.matrixbase import MatrixBase


def read(expression: str) -> list:
    """Return what math-verify reads in a LaTeX expression without delimiters ([] for nothing)."""
    return parse(f"${expression}$", parsing_timeout=None)


def equal(a: str, b: str) -> bool:
    """Compare in both directions, since math-verify treats reference and answer differently."""
    left, right = read(a), read(b)
    return verify(left, right, timeout_seconds=None) or verify(right, left, timeout_seconds=None)


def canonical(expression: str) -> str:
    """Return the expanded form of an expression ("x = 5" counts as 5), '' if it cannot be read."""
    value = next((e for e in read(expression) if isinstance(e, sympy.Basic | MatrixBase)), None)
    if value is None:
        return ""
    if isinstance(value, sympy.Eq) and isinstance(value.lhs, sympy.Symbol):
        value = value.rhs
    value = sympy.expand(value.doit())  # the parser leaves sqrt(8) and 50*(1/100) unevaluated
    return str(value) if getattr(value, "is_Rational", False) else sympy.srepr(value)
