"""What an expression is worth, exactly where its value is rational, else to high relative precision.

A variable stands for a few fixed, arbitrary-looking rational points; two expressions that agree at all of
them are the same function (Schwartz-Zippel), as far as 20-bit points tell. Everything is bounded: by the
digits of numbers, by the magnitude of intermediate results, and by the work done. Beyond the bounds an
expression is UnreadError, and only its own text equals it.
"""

import hashlib
import math
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath

from stages.answers.expressions import Node, names
from stages.answers.tokens import UnreadError

MAX_BITS = 60_000  # of the numerator or denominator of an exact value
MAX_MAGNITUDE = 2_000  # of the binary exponent of an inexact one
MAX_WORK = 2_000_000  # roughly bits computed; a tenth of a second
MAX_FACTORIAL = 4_000
POINTS = 4  # the first POSITIVE of them have positive coordinates only
POSITIVE = 2

_local = threading.local()


@lru_cache(maxsize=4096)
def magnitude(node: Node) -> int:
    """Return the greatest binary exponent (of either sign) on the way to the value of `node`.

    Values that are compared are computed to a precision that this determines: see `fingerprint`.
    """
    return max((_evaluate(node, point, 640)[1] for point in _points(node)), default=0)


@lru_cache(maxsize=4096)
def fingerprint(node: Node, greatest: int) -> str:
    """Return a text that is the same for expressions of the same value and differs for others.

    Intermediate results must be within 2**±greatest. A rational constant is its own fingerprint. That of an
    expression in variables has two halves, "positive|any": expressions that agree where all variables are
    positive, but not elsewhere, share the first.
    """
    bits = 256 + 2 * greatest
    values = [_render(_evaluate(node, point, 2 * bits + 64)[0], bits) for point in _points(node)]
    if len(values) == 1 or len(set(values)) == 1:
        return values[0]  # a constant, though variables may occur, as in x - x + 1
    return f"{_digest(values[:POSITIVE])}|{_digest(values[POSITIVE:])}"


def ratios(left: Node, right: Node, greatest: int, signed: bool) -> str:
    """Return a fingerprint of `left - right` up to a constant factor, or with `signed` a positive one.

    '' if the difference is zero everywhere or at the first point.
    """
    difference = ("add", left, ("negative", right))
    bits = 256 + 2 * greatest
    values = [_evaluate(difference, point, 2 * bits + 64)[0] for point in _points(difference)]
    if len(values) == 1 or _render(values[0], bits) == "0":
        return ""
    unit = abs(values[0]) if signed else values[0]
    return _digest([_render(_quotient(value, unit, bits), bits) for value in values])


def _quotient(a: Any, b: Any, bits: int) -> Any:
    exact = isinstance(a, Fraction) and isinstance(b, Fraction)
    return a / b if exact else _float(a, bits) / _float(b, bits)


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:24]


def _points(node: Node) -> list[dict[str, Fraction]]:
    variables = names(node)
    if not variables:
        return [{}]
    return [{name: _coordinate(name, i) for name in variables} for i in range(POINTS)]


@lru_cache(maxsize=4096)
def _coordinate(name: str, point: int) -> Fraction:
    seed = int.from_bytes(hashlib.sha256(f"{name} {point}".encode()).digest())
    value = Fraction((1 << 19) + seed % (1 << 20), (1 << 19) + (seed >> 20) % (1 << 20))
    # The last point but one is negative throughout. The base of an unmarked logarithm stays above one.
    if name == "\\log":
        return value + 1
    return -value if point == POSITIVE or (point > POSITIVE and seed >> 64 & 1) else value


def _context() -> Any:
    if not hasattr(_local, "mp"):
        _local.mp = mpmath.MPContext()
    return _local.mp


def _evaluate(node: Node, point: dict[str, Fraction], precision: int) -> tuple[Any, int]:
    """Return the value at a point, as a Fraction where it is exact, and the greatest binary exponent."""
    run = _Evaluation(point, precision)
    try:
        value = run.value(node)
        value = value if isinstance(value, Fraction) else run.checked(value)
        return value, run.greatest
    except (ZeroDivisionError, OverflowError, ValueError, TypeError, mpmath.libmp.NoConvergence) as e:
        raise e if isinstance(e, UnreadError) else UnreadError(f"no value: {e}") from None


def _float(value: Any, bits: int) -> Any:
    mp = _context()
    mp.prec = 2 * bits + 64
    return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _render(value: Any, bits: int) -> str:
    """Write a value computed to more than `bits`: "3/4", "~1.41421...", "~0.5+~0.866j"."""
    if isinstance(value, Fraction):
        return _exact(value)
    mp = _context()
    mp.prec = 2 * bits + 64
    size = abs(value)
    if isinstance(value, mp.mpf):
        return _decimal(value, bits)
    parts = [
        part if part and mp.mag(part) - mp.mag(size) > -bits // 2 else mp.mpf(0)
        for part in (value.real, value.imag)
    ]
    real, imaginary = (_decimal(part, bits) if part else "" for part in parts)
    return f"{real}+{imaginary}j" if imaginary else real


def _exact(value: Fraction) -> str:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 4_000:
        return f"{value.numerator:x}/{value.denominator:x}"  # str is quadratic, and Python limits it
    return str(value)


def _decimal(value: Any, bits: int) -> str:
    """Write a real number: as a fraction if a small one agrees in all digits, such as (sqrt 2)^2."""
    mp = _context()
    sign, mantissa, exponent, _ = value._mpf_
    if abs(mp.mag(value)) < 64:
        exact = Fraction(int(mantissa)) * Fraction(2) ** exponent * (-1 if sign else 1)
        near = exact.limit_denominator(10**9)
        if near and abs(exact - near) < abs(near) / 2 ** (bits // 2):
            return str(near)
    return "~" + mp.nstr(value, int(bits * 0.15), strip_zeros=False)


class _Evaluation:
    """One evaluation at a point. Fractions stay exact until an operation has no rational result."""

    def __init__(self, point: dict[str, Fraction], precision: int) -> None:
        self.mp = _context()
        self.mp.prec = precision
        self._point, self._precision, self.greatest, self._work = point, precision, 0, 0

    def value(self, node: Node) -> Any:
        """Return the value of `node`. Raises UnreadError or an ArithmeticError if it has none."""
        kind = node[0]
        if kind == "number":
            return node[1]
        if kind == "name":
            return self._point[node[1]]
        if kind == "constant":
            return {"pi": +self.mp.pi, "e": +self.mp.e, "i": self.mp.mpc(0, 1)}[node[1]]
        self._spend(1)
        if kind in ("plus_minus", "minus_plus"):  # two values; see bodies.py for where they are read
            raise UnreadError("two values")
        operation: Callable[..., Any] = getattr(self, f"_{kind}")
        if kind == "call":
            return self.checked(operation(node[1], self.value(node[2])))
        return self.checked(operation(*map(self.value, node[1:])))

    def checked(self, value: Any) -> Any:
        """Return a value that is within the bounds."""
        if isinstance(value, Fraction):
            if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
                raise UnreadError("a number of too many digits")
            return value
        if isinstance(value, self.mp.mpc) and not value.imag:
            value = value.real
        if not self.mp.isfinite(value):
            raise UnreadError("no finite value")
        if value:
            self.greatest = max(self.greatest, abs(int(self.mp.mag(value))))
            if self.greatest > MAX_MAGNITUDE:
                raise UnreadError("too large or too small a number")
        return value

    def _unless_cancelled(self, value: Any, size: int) -> Any:
        """Return a value computed from others of up to 2**size, or zero if no digit of it is left."""
        lost = value and self.mp.mag(value) < size - self._precision + 100
        return Fraction(0) if lost or not value else value

    def _spend(self, times: int) -> None:
        self._work += times * self._precision
        if self._work > MAX_WORK:
            raise UnreadError("too much to compute")

    def float(self, value: Any) -> Any:
        """Return a value as a floating-point number."""
        if not isinstance(value, Fraction):
            return value
        size = max(value.numerator.bit_length(), value.denominator.bit_length())
        if size > MAX_MAGNITUDE:
            raise UnreadError("too large or too small a number")
        self.greatest = max(self.greatest, size)
        return self.mp.mpf(value.numerator) / value.denominator

    def _both(self, operation: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            self._spend(1 + (a.numerator.bit_length() + b.numerator.bit_length()) // 256)
            return operation(a, b)
        return operation(self.float(a), self.float(b))

    def _add(self, a: Any, b: Any) -> Any:
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return self._both(lambda x, y: x + y, a, b)
        a, b = self.float(a), self.float(b)
        return self._unless_cancelled(a + b, max(int(self.mp.mag(x)) if x else 0 for x in (a, b)))

    def _multiply(self, a: Any, b: Any) -> Any:
        return self._both(lambda x, y: x * y, a, b)

    def _divide(self, a: Any, b: Any) -> Any:
        return self._both(lambda x, y: x / y, a, b)

    def _negative(self, a: Any) -> Any:
        return -a

    def _percent(self, a: Any) -> Any:
        return self._divide(a, Fraction(100))

    def _degrees(self, a: Any) -> Any:
        return self._multiply(self._divide(a, Fraction(180)), +self.mp.pi)

    def _abs(self, a: Any) -> Any:
        return abs(a)

    def _floor(self, a: Any) -> Any:
        return self._whole(a, math.floor)

    def _ceiling(self, a: Any) -> Any:
        return self._whole(a, math.ceil)

    def _whole(self, a: Any, rounding: Callable[[Any], int]) -> Any:
        if isinstance(a, Fraction):
            return Fraction(rounding(a))
        if not isinstance(a, self.mp.mpf):
            raise UnreadError("a complex number rounded")
        nearest = self.mp.nint(a)
        if abs(a - nearest) < self.mp.mpf(2) ** (-self._precision // 4):
            return Fraction(int(nearest))
        return Fraction(int(self.mp.floor(a) if rounding is math.floor else self.mp.ceil(a)))

    def _power(self, base: Any, exponent: Any) -> Any:
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            return self._integer_power(base, exponent.numerator)
        exact = isinstance(exponent, Fraction) and isinstance(base, Fraction) and exponent.denominator <= 64
        if exact and (exponent.denominator % 2 or base >= 0):  # the real root of a negative number
            root = self._root(Fraction(exponent.denominator), base)
            return self._integer_power(root, exponent.numerator)
        base, exponent = self.float(base), self.float(exponent)
        if not base:
            raise UnreadError("a power of zero")
        self._spend(20)
        logarithm = self.mp.log(base)
        if abs(exponent * logarithm) > MAX_MAGNITUDE:
            raise UnreadError("too large or too small a number")
        return self.mp.exp(exponent * logarithm)

    def _integer_power(self, base: Any, exponent: int) -> Any:
        if isinstance(base, Fraction):
            size = max(base.numerator.bit_length(), base.denominator.bit_length())
            if base in (0, 1, -1):
                if not base and exponent <= 0:
                    raise UnreadError("zero to the power of zero or less")
                return base if exponent % 2 or base >= 0 else -base
            if size * abs(exponent) > MAX_BITS + size:
                raise UnreadError("a number of too many digits")
            self._spend(1 + size * abs(exponent) // 256)
            return base**exponent
        if not base:
            raise UnreadError("a power of zero")
        if abs(exponent) * max(1, abs(int(self.mp.mag(base)))) > MAX_MAGNITUDE * 2:
            raise UnreadError("too large or too small a number")
        self._spend(12)
        return base**exponent

    def _root(self, index: Any, radicand: Any) -> Any:
        if not isinstance(index, Fraction) or index.denominator != 1 or not 2 <= index <= 64:
            if not isinstance(index, Fraction) or index <= 0:
                raise UnreadError("a root of this index")
            return self._power(radicand, 1 / index)
        n = index.numerator
        negative = not isinstance(radicand, self.mp.mpc) and radicand < 0
        if negative:
            if n % 2:
                return -self._root(index, -radicand)
            if n == 2:
                return self.mp.mpc(0, 1) * self.float(self._root(index, -radicand))
            return self.mp.root(self.mp.mpc(self.float(radicand)), n)
        if isinstance(radicand, Fraction):
            top, bottom = _integer_root(radicand.numerator, n), _integer_root(radicand.denominator, n)
            if top is not None and bottom is not None:
                return Fraction(top, bottom)
        self._spend(4)
        return self.mp.root(self.float(radicand), n)

    def _factorial(self, a: Any) -> Any:
        if isinstance(a, Fraction) and a.denominator == 1:
            if not 0 <= a <= MAX_FACTORIAL:
                raise UnreadError("too large a factorial")
            self._spend(int(a) // 16 + 1)
            return Fraction(math.factorial(int(a)))
        return self._gamma(self._add(a, Fraction(1)))

    def _gamma(self, a: Any) -> Any:
        a = self.float(a)
        if abs(a) > 1000:
            raise UnreadError("too large a factorial")
        self._spend(200)
        return self.mp.gamma(a)

    def _binomial(self, n: Any, k: Any) -> Any:
        if all(isinstance(v, Fraction) and v.denominator == 1 for v in (n, k)):
            if not 0 <= k <= n <= 10_000:
                raise UnreadError("a binomial coefficient out of range")
            self._spend(int(min(k, n - k)) // 4 + 1)
            return Fraction(math.comb(int(n), int(k)))
        if isinstance(n, Fraction) and isinstance(k, Fraction) and k.denominator == 1 and 0 <= k <= 20:
            return math.prod((n - i for i in range(int(k))), start=Fraction(1)) / math.factorial(int(k))
        below = self._add(n, -k)
        return self._divide(self._factorial(n), self._multiply(self._factorial(k), self._factorial(below)))

    def _call(self, name: str, a: Any) -> Any:
        a = self.float(a)
        size = int(self.mp.mag(a)) if a else 0
        if size > 200 or (name in ("exp", "sinh", "cosh") and abs(a) > MAX_MAGNITUDE):
            raise UnreadError("too large an argument")
        self._spend(20)
        if name == "log":  # of a base that is not given
            return self.mp.log(a) / self.mp.log(self.float(self._point["\\log"]))
        inverse = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "ln": "log"}
        return self._unless_cancelled(getattr(self.mp, inverse.get(name, name))(a), min(size, 0))


def _integer_root(value: int, n: int) -> int | None:
    """Return the exact n-th root of a natural number, or None."""
    root = math.isqrt(value) if n == 2 else _newton(value, n)
    return root if root**n == value else None


def _newton(value: int, n: int) -> int:
    if value < 2:
        return value
    x = 1 << -(-value.bit_length() // n)
    while (y := ((n - 1) * x + value // x ** (n - 1)) // n) < x:
        x = y
    return x
