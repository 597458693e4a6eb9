"""Mathematical equality with math-verify, without a time limit of its own: called through pipeline.limited only."""

import sympy
from math_verify import parse, verify
from sympy.matrices.matrixbase import MatrixBase


def read(expression: str) -> list:
    """Return what math-verify reads in a LaTeX expression given without delimiters ([] for nothing)."""
    return parse(f"${expression}$", parsing_timeout=None)


def equal(a: str, b: str) -> bool:
    """Compare both ways round, for math-verify treats the reference and the answer differently."""
    left, right = read(a), read(b)
    return verify(left, right, timeout_seconds=None) or verify(right, left, timeout_seconds=None)


def canonical(expression: str) -> str:
    """Return the expanded form of an expression ("x = 5" counts as 5), '' when it cannot be read."""
    found = next((e for e in read(expression) if isinstance(e, sympy.Basic | MatrixBase)), None)
    if found is None:
        return ""
    if isinstance(found, sympy.Eq) and isinstance(found.lhs, sympy.Symbol):
        found = found.rhs
    found = sympy.expand(found.doit())  # the parser leaves sqrt(8) and 50*(1/100) as they were written
    return str(found) if getattr(found, "is_Rational", False) else sympy.srepr(found)
