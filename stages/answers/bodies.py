r"""Values with their units, tuples, intervals, sets and matrices, each read as a whole."""

import re
from collections.abc import Sequence
from fractions import Fraction

from stages.answers.expressions import Node, contains, names, parse
from stages.answers.shapes import Body, Group, Symbol, Value
from stages.answers.tokens import Token, UnreadError, is_sign, nesting, separator, split
from stages.answers.units import SCALES, UNITS, counted

Tokens = Sequence[Token]

_MONEY = ("$", "€", "£", "¥")


def body_of(tokens: Tokens) -> Body:
    """Return what all of `tokens` are. Raises UnreadError."""
    if not tokens:
        raise UnreadError("nothing")
    if any(is_sign(t, "cup") for t in tokens):
        parts, _ = split(tokens, lambda t: t.text if is_sign(t, "cup") else "")
        return Group("union", tuple(map(body_of, parts))) if len(parts) > 1 else _bracketed(tokens)
    texts = [t.text for t in tokens]
    if texts == ["emptyset"]:
        return Group("{}", ())
    if tokens[0].kind == "word" and len(tokens) == 1 and texts[0].startswith("\\mathbb"):
        return Symbol(texts[0])
    if texts in (["infty"], ["+", "infty"], ["-", "infty"]):
        return Symbol("-∞" if texts[0] == "-" else "∞")
    if is_sign(tokens[0], "begin"):
        return _matrix(tokens)
    return _bracketed(tokens)


def _bracketed(tokens: Tokens) -> Body:
    closer = _closing(tokens)
    if closer != len(tokens) - 1 or not is_sign(tokens[0], "(", "[", "\\{", "{", "langle"):
        return _value(tokens)
    opening, inner, closing = tokens[0].text, tokens[1:-1], tokens[-1].text
    if opening == "\\{" or (opening == "{" and any(is_sign(t, ",") for t in inner)):
        if closing not in ("\\}", "}"):
            raise UnreadError("brackets that do not match")
        return Group("{}", _items(inner) if inner else ())
    items = _items(inner)
    if len(items) == 1:
        return _value(tokens)
    kinds = {"langle": "<", "rangle": ">"}
    kind = kinds.get(opening, opening) + kinds.get(closing, closing)
    if kind not in ("()", "(]", "[)", "[]", "<>"):
        raise UnreadError("brackets that do not match")
    return Group(kind, items)


def _items(tokens: Tokens) -> tuple[Body, ...]:
    parts, joints = split(tokens, separator)
    if set(joints) - {","}:
        raise UnreadError("words between brackets")
    if any(re.fullmatch("0[0-9]{2}", part[0].text) and not part[0].spaced for part in parts[1:]):
        raise UnreadError("(1,000): one number or two?")
    return tuple(map(body_of, parts))


def _closing(tokens: Tokens) -> int:
    depth = 0
    for i, token in enumerate(tokens):
        depth += nesting(token)
        if depth == 0:
            return i
    return -1


def _matrix(tokens: Tokens) -> Body:
    texts = [t.text for t in tokens]
    if texts[1:2] != ["{"] or texts[-3:-2] != ["{"] or len(texts) < 9:
        raise UnreadError("an environment")
    name, inner = texts[2], tokens[4:-4]
    if (
        name not in ("pmatrix", "bmatrix", "matrix")
        or texts[-4:] != ["end", "{", name, "}"]
        or texts[3] != "}"
    ):
        raise UnreadError("an environment that is no matrix")
    rows, _ = split(_without_last_break(inner), lambda t: t.text if is_sign(t, "\\\\") else "")
    cells = [
        [body_of(cell) for cell in split(row, lambda t: t.text if is_sign(t, "&") else "")[0]] for row in rows
    ]
    if len({len(row) for row in cells}) != 1:
        raise UnreadError("rows of several lengths")
    return Group(str(len(cells[0])), tuple(cell for row in cells for cell in row))


def _without_last_break(tokens: Tokens) -> Tokens:
    return tokens[:-1] if tokens and is_sign(tokens[-1], "\\\\") else tokens


# ---- values and their units ----


def _value(tokens: Tokens) -> Body:
    grouped = any(t.kind == "number" and "," in t.text for t in tokens)
    tokens = [t._replace(text=t.text.replace(",", "")) if t.kind == "number" else t for t in tokens]
    if (
        len(tokens) > 2
        and tokens[0].kind == "number"
        and tokens[0].text.isdigit()
        and is_sign(tokens[1], "_")
    ):
        return _in_a_base(tokens)
    tokens, unit = _unit(tokens)
    node = parse(tokens)
    if names(node) and unit in map(UNITS.get, _MONEY):
        raise UnreadError("letters after an amount of money")
    if not _is_literal(node) and any(
        u.split("^")[0] not in UNITS.values() for u in unit.split() if u != "per"
    ):
        raise UnreadError("words after an expression")
    if contains(node, "plus_minus", "minus_plus"):
        return _both_signs(node, unit)
    if node[0] == "degrees" and not unit:
        node, unit = node[1], "degree"
    return Value(node, unit, grouped)


def _is_literal(node: Node) -> bool:
    """Tell whether an expression is a number as people write it, of which there can be so many apples."""
    return node[0] == "number" or (node[0] in ("negative", "divide") and all(map(_is_literal, node[1:])))


def _in_a_base(tokens: Tokens) -> Value:
    digits, base = tokens[0].text, [t.text for t in tokens[2:] if t.text not in ("{", "}")]
    if len(base) != 1 or not base[0].isdigit() or not 2 <= int(base[0][:3]) <= 36:
        raise UnreadError("no base")
    try:
        value = int(digits, int(base[0]))
    except ValueError as e:
        raise UnreadError(str(e)) from None
    return Value(("number", Fraction(value)), f"base {int(base[0])}")


def _unit(tokens: list[Token]) -> tuple[list[Token], str]:
    """Take a currency sign off the start, or a unit in words off the end."""
    for i in range(min(2, len(tokens))):
        if is_sign(tokens[i], *_MONEY) and (i == 0 or is_sign(tokens[0], "-")) and len(tokens) > i + 1:
            money = UNITS[tokens[i].text]
            rest, unit = _unit(tokens[:i] + tokens[i + 1 :])
            if unit not in ("", money):
                raise UnreadError("two units")
            return rest, money
    starts = (i for i, t in enumerate(tokens) if _starts_unit(tokens[i:]) and (i or t.kind == "word"))
    at = next(starts, len(tokens))
    if at == len(tokens):
        return tokens, ""
    if at == 0 or not all(map(_in_unit, tokens[at:])):
        raise UnreadError("words")
    phrase = "".join(f" {t.text}" if t.kind in ("word", "unit") else t.text for t in tokens[at:]).strip()
    first, _, others = phrase.partition(" ")
    if scale := SCALES.get(first.lower()):
        product = [Token("sign", ")"), Token("sign", "*"), Token("number", str(scale))]
        return [Token("sign", "("), *tokens[:at], *product], _named(others) if others else ""
    if phrase.lower() in ("percent", "per cent", "pct"):
        return [*tokens[:at], Token("sign", "%")], ""
    return _degrees(tokens[:at], _named(phrase))


def _starts_unit(tokens: Tokens) -> bool:
    short = tokens[0].kind == "unit" or is_sign(tokens[0], *_MONEY)
    return tokens[0].kind == "word" or (short and all(map(_in_unit, tokens)))


def _in_unit(token: Token) -> bool:
    return token.kind in ("word", "unit", "number") or is_sign(token, "^", "{", "}", "/", "-", *_MONEY)


def _named(phrase: str) -> str:
    powers = phrase.replace("{", "").replace("}", "").split("^")
    unit = counted(powers[0])
    if not unit or any(not p.lstrip("-").isdigit() for p in powers[1:]) or len(powers) > 2:
        raise UnreadError("no unit")
    return unit + (f"^{powers[1]}" if powers[1:] else "")


def _degrees(tokens: list[Token], unit: str) -> tuple[list[Token], str]:
    if tokens and is_sign(tokens[-1], "degree"):
        return tokens[:-1], f"degree {unit}"
    return tokens, unit


def _both_signs(node: Node, unit: str) -> Group:
    if _count(node, "plus_minus") > 1 or _count(node, "minus_plus") > 1:
        raise UnreadError("several signs")
    return Group("{}", (Value(_signed(node, "add"), unit), Value(_signed(node, "subtract"), unit)))


def _count(node: Node, operation: str) -> int:
    return (node[0] == operation) + sum(_count(p, operation) for p in node[1:] if isinstance(p, tuple))


def _signed(node: Node, upper: str) -> Node:
    parts = tuple(_signed(p, upper) if isinstance(p, tuple) else p for p in node[1:])
    if node[0] not in ("plus_minus", "minus_plus"):
        return (node[0], *parts)
    positive = (upper == "add") == (node[0] == "plus_minus")
    return ("add", parts[0], parts[1] if positive else ("negative", parts[1]))
