r"""Expressions as trees: what is not read as a whole is UnreadError.

A node is a tuple: ("number", Fraction), ("name", "x"), ("constant", "pi" | "e" | "i"), or an operation
and its operands, which are nodes: add, multiply, divide, power, root (index, radicand), negative, abs,
floor, ceiling, factorial, binomial, percent, degrees, plus_minus, minus_plus, and ("call", name, node).

What people read in two ways is refused: `1/2x`, `\sin x/2`, `\sin (x)^2`, `x^2^3`, `\frac123`.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from stages.answers.tokens import FUNCTIONS, Token, UnreadError

Node = tuple[Any, ...]
MAX_DEPTH = 40
MAX_DIGITS = 600

_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}
_CLOSERS = {"(": ")", "{": "}", "lfloor": "rfloor", "lceil": "rceil"}
_APPLIED = frozenset("fgFG") | {f"\\{name}" for name in ("Gamma", "zeta", "phi", "varphi", "psi")}
_REPEATING = re.compile(
    r"([0-9]+)(?:\.([0-9]*))?(?:\\(?:overline|bar|dot)\s*\{?([0-9]+)\}?(?:([0-9]*)\\dot\s*\{?([0-9])\}?)?|\(([0-9]+)\))"
)


def parse(tokens: Sequence[Token]) -> Node:
    """Return the expression that all of `tokens` make up. Raises UnreadError."""
    parser = _Parser([part for token in tokens for part in _product(token)])
    node = parser.sum()
    parser.end()
    return node


def _product(token: Token) -> list[Token]:
    return [Token("name", letter) for letter in token.text] if token.kind == "unit" else [token]


def names(node: Node) -> set[str]:
    """Return the variables of an expression."""
    if node[0] == "name":
        return {node[1]}
    return {name for part in node[1:] if isinstance(part, tuple) for name in names(part)} | (
        {"\\log"} if node[:2] == ("call", "log") else set()
    )


def contains(node: Node, *operations: str) -> bool:
    """Tell whether one of the operations occurs in an expression."""
    return node[0] in operations or any(isinstance(p, tuple) and contains(p, *operations) for p in node[1:])


def number(text: str) -> Fraction:
    """Return the value of a number token: a decimal, perhaps repeating or with an exponent."""
    if len(text) > MAX_DIGITS:
        raise UnreadError("a number of too many digits")
    if match := _REPEATING.fullmatch(text):
        whole, fixed, start, middle, end, plain = match.groups("")
        repeated = plain or start + middle + end
        if match[2] is None:
            raise UnreadError("a bar over digits before the point")
        scale = 10 ** len(fixed)
        return Fraction(int(whole + fixed), scale) + Fraction(
            int(repeated), scale * (10 ** len(repeated) - 1)
        )
    mantissa, _, exponent = text.lower().partition("e")
    if len(exponent) > 5:
        raise UnreadError("too large an exponent")
    return Fraction(mantissa.rstrip(".")) * Fraction(10) ** int(exponent or 0)


class _Parser:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise UnreadError(f"unexpected {self._tokens[self._at].text!r}")

    # ---- tokens ----

    def _peek(self, ahead: int = 0) -> Token:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else Token("end", "")

    def _is(self, *texts: str) -> bool:
        token = self._peek()
        return token.kind in ("sign", "command") and token.text in texts

    def _take(self) -> Token:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, text: str) -> None:
        if not self._is(text):
            raise UnreadError(f"expected {text}")
        self._at += 1

    def _inside(self, closer: str) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadError("too deeply nested")
        node = self.sum()
        self._expect(closer)
        self._depth -= 1
        return node

    # ---- sums and products ----

    def sum(self) -> Node:
        node = self._signed()
        while self._is("+", "-", "pm", "mp"):
            operator = self._take().text
            term = self._product()
            if operator == "-":
                term = ("negative", term)
            node = ({"pm": "plus_minus", "mp": "minus_plus"}.get(operator, "add"), node, term)
        return node

    def _signed(self) -> Node:
        if not self._is("+", "-", "pm", "mp"):
            return self._product()
        operator = self._take().text
        if operator in ("pm", "mp"):
            return (
                "plus_minus" if operator == "pm" else "minus_plus",
                ("number", Fraction(0)),
                self._product(),
            )
        return ("negative", self._product()) if operator == "-" else self._product()

    def _product(self) -> Node:
        node, divided = self._mixed(), False
        while True:
            if self._is("times", "cdot", "*"):
                self._take()
                node, divided = ("multiply", node, self._operand()), False
            elif self._is("/", "div"):
                if divided:
                    raise UnreadError("a quotient of a quotient")
                self._take()
                node, divided = ("divide", node, self._operand()), True
            elif self._starts_factor():
                closed = self._at and self._tokens[self._at - 1].text in ("!", ")", "}")
                if divided or (self._peek().kind == "number" and not closed):
                    raise UnreadError("what is divided, or two numbers side by side")
                node = ("multiply", node, self._mixed())
            else:
                return node

    def _operand(self) -> Node:
        if self._is("-"):
            self._take()
            return ("negative", self._mixed())
        return self._mixed()

    def _mixed(self) -> Node:
        r"""Return a factor, or a mixed number: 2\frac12 or 2 1/2, whose part is below one."""
        token, following = self._peek(), self._peek(1)
        if token.kind != "number" or not token.text.isdigit():
            return self._factor()
        if following[:2] == ("command", "frac"):
            return self._with_a_fraction()
        ahead = [self._peek(i) for i in range(1, 4)]
        kinds = [t.text if t.kind == "sign" else t.kind for t in ahead]
        if not ahead[0].spaced or kinds != ["number", "/", "number"]:
            return self._factor()
        top, bottom = ahead[0].text, ahead[2].text
        if not (top.isdigit() and bottom.isdigit() and 0 < int(top) < int(bottom)):
            raise UnreadError("no mixed number")
        self._at += 4
        return self._parts(number(token.text) + Fraction(int(top), int(bottom)))

    def _with_a_fraction(self) -> Node:
        start, whole = self._at, number(self._take().text)
        part = self._base()
        if part[0] == "divide" and all(p[0] == "number" and p[1].denominator == 1 for p in part[1:]):
            if not 0 < part[1][1] < part[2][1]:
                raise UnreadError("a product, or a mixed number?")
            return self._parts(whole + part[1][1] / part[2][1])
        self._at = start
        return self._factor()

    def _parts(self, mixed: Fraction) -> Node:
        if self._is("^", "!"):
            raise UnreadError("a mixed number, raised")
        return self._postfix(("number", mixed))

    def _starts_factor(self) -> bool:
        token = self._peek()
        if token.kind in ("number", "name"):
            return True
        starts = token.text in FUNCTIONS or token.text in (
            "frac",
            "sqrt",
            "binom",
            "pi",
            "infty",
            "lfloor",
            "lceil",
        )
        return (token.kind == "command" and starts) or (token.kind == "sign" and token.text in ("(", "{"))

    # ---- factors ----

    def _factor(self) -> Node:
        grouped = self._is("(", "{")
        return self._postfix(self._base(), grouped)

    def _postfix(self, node: Node, grouped: bool = False) -> Node:
        raised = False
        while True:
            if self._is("^"):
                if raised:
                    raise UnreadError("a power of a power without brackets")
                self._take()
                node, raised = ("power", node, self._exponent()), True
            elif self._is("!"):
                self._take()
                if self._is("!") or raised:
                    raise UnreadError("a double factorial, or the factorial of a power")
                node = ("factorial", node)
            elif self._is("%", "degree"):
                node = ("percent" if self._take().text == "%" else "degrees", node)
            else:
                return node

    def _exponent(self) -> Node:
        if self._is("{"):
            self._take()
            return self._inside("}")
        if self._is("-", "+"):
            sign = self._take().text
            if self._peek().kind != "number":
                raise UnreadError("an exponent without braces")
            node = self._literal()
            return ("negative", node) if sign == "-" else node
        if self._is("("):
            self._take()
            return self._inside(")")
        if self._peek().kind == "number":
            return self._literal()
        if self._peek().kind == "name" or self._is("pi"):
            return self._base()
        raise UnreadError("an exponent without braces")

    def _literal(self) -> Node:
        return ("number", number(self._take().text))

    def _base(self) -> Node:
        token = self._peek()
        if token.kind == "number":
            return self._literal()
        if token.kind == "name":
            return self._name()
        if token.kind == "sign" and token.text in ("(", "{"):
            self._take()
            return self._inside(_CLOSERS[token.text])
        if token.kind == "sign" and token.text == "|":
            self._take()
            return ("abs", self._inside("|"))
        if token.kind != "command":
            raise UnreadError(f"unexpected {token.text!r}")
        return self._command(self._take().text)

    def _command(self, command: str) -> Node:
        if command == "pi":
            return ("constant", "pi")
        if command in ("frac", "binom"):
            top, bottom = self._argument(), self._argument(last=True)
            return ("divide" if command == "frac" else "binomial", top, bottom)
        if command == "sqrt":
            return self._root()
        if command in ("lfloor", "lceil"):
            return ("floor" if command == "lfloor" else "ceiling", self._inside(_CLOSERS[command]))
        if command in FUNCTIONS:
            return self._call(command)
        raise UnreadError(f"unexpected {command}")

    def _argument(self, last: bool = False) -> Node:
        """Return a command's argument: a group, a digit or a letter. No digit may follow the last one."""
        token = self._peek()
        if token.kind == "number" and token.text.isdigit() and token.text.isascii():
            if len(token.text) > 1:
                return self._digits(token, last)
            self._take()
            return ("number", Fraction(int(token.text)))
        if self._is("{"):
            self._take()
            return self._inside("}")
        if token.kind == "name" or self._is("pi"):
            return self._base()
        raise UnreadError("a command without its argument")

    def _digits(self, token: Token, last: bool) -> Node:
        r"""Take the first digit of several, as in \frac12. A digit left over is ambiguous, as in \frac123."""
        if last:
            raise UnreadError("digits after an argument")
        rest = Token("number", token.text[1:])
        self._tokens = [*self._tokens[: self._at], rest, *self._tokens[self._at + 1 :]]
        return ("number", Fraction(int(token.text[0])))

    def _root(self) -> Node:
        index: Node = ("number", Fraction(2))
        if self._is("["):
            self._take()
            index = self._inside("]")
        if self._is("("):  # sqrt(3), as in plain text
            self._take()
            return ("root", index, self._inside(")"))
        return ("root", index, self._argument(last=True))

    def _name(self) -> Node:
        name = self._take().text
        if self._is("_"):
            self._take()
            name += f"_{self._subscript()}"
        elif name in ("e", "i"):
            return ("constant", name)
        if self._is("("):
            inner = self._peek(1)
            single = inner.kind in ("name", "number") and self._peek(2)[:2] == ("sign", ")")
            if name in _APPLIED or single or "_" in name:
                raise UnreadError("a product, or a function of what is in brackets?")
        return ("name", name)

    def _subscript(self) -> str:
        if not self._is("{"):
            token = self._take()
            if token.kind not in ("number", "name"):
                raise UnreadError("no subscript")
            return token.text
        self._take()
        parts = []
        while not self._is("}"):
            token = self._take()
            if token.kind == "end" or token.text == "{":
                raise UnreadError("no subscript")
            parts.append(token.text)
        self._take()
        return " ".join(parts)

    def _call(self, name: str) -> Node:
        exponent: Node | None = None
        base: Node | None = None
        while self._is("^", "_"):
            if self._take().text == "_":
                if base or name != "log":
                    raise UnreadError("a subscript of a function")
                base = self._argument()
            elif exponent:
                raise UnreadError("two exponents of a function")
            else:
                exponent = self._exponent()
        if exponent == ("negative", ("number", Fraction(1))):
            if name not in _INVERSE:
                raise UnreadError("the inverse of a function, or its reciprocal?")
            name, exponent = _INVERSE[name], None
        node: Node = ("call", name, self._operand_of_function())
        if base:
            node = ("divide", ("call", "ln", node[2]), ("call", "ln", base))
        return ("power", node, exponent) if exponent else node

    def _operand_of_function(self) -> Node:
        if self._is("(", "|"):
            node = self._base()
            if self._is("^", "!"):
                raise UnreadError("the power of a function, or of its argument?")
            return ("degrees", node) if self._is("degree") and self._take() else node
        if self._is("{"):
            self._take()
            node = self._inside("}")
        else:
            node = self._factor()
        while self._starts_factor() and self._peek().text not in FUNCTIONS and not self._is("("):
            node = ("multiply", node, self._factor())
        if self._is("/", "(", "div"):
            raise UnreadError("the end of a function's argument is not certain")
        return node
