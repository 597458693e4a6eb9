r"""What a mathematical answer is: a value, a tuple, an interval, several solutions, an equation.

Everything is read as a whole, or UnreadError is raised. Lists, sets and solutions have no order, tuples have.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from stages.answers.algebra import fingerprint, magnitude
from stages.answers.bodies import body_of
from stages.answers.expressions import MAX_DEPTH, Node, names, parse
from stages.answers.shapes import Answer, Group, Relation, Symbol, Value, nodes
from stages.answers.tokens import Token, UnreadError, is_sign, nesting, separator, split

Tokens = Sequence[Token]


_RELATIONS = ("=", "<", ">", "le", "ge", "ne", "in")


def read(tokens: Tokens) -> Answer:
    """Return the answer that all of `tokens` make up. Raises UnreadError."""
    if max(accumulate(map(nesting, tokens)), default=0) > MAX_DEPTH:
        raise UnreadError("too deeply nested")
    tokens = _grouped(tokens)
    while tokens and tokens[-1][:2] == ("sign", "."):
        tokens = tokens[:-1]
    letters = [t.text for t in tokens if t.kind == "name"]
    if len(tokens) > 1 and len(letters) == len(tokens) and set("aeiouAEIOU") & set(letters):
        raise UnreadError("a word, or a product of letters?")
    parts, joints = split(tokens, separator)
    answers = [_part(part) for part in parts]
    return answers[0] if len(answers) == 1 else _several(answers, joints)


def _grouped(tokens: Tokens) -> list[Token]:
    """Join 1 , 000 outside of brackets into one number token, whose text keeps the comma."""
    joined: list[Token] = []
    depth = 0
    for token in tokens:
        depth += is_sign(token, "(", "[", "\\{", "langle") - is_sign(token, ")", "]", "\\}", "rangle")
        if depth == 0 and token.kind == "number" and len(joined) > 1 and _continues(joined, token):
            joined.pop()
            first = joined.pop()
            token = Token("number", f"{first.text},{token.text}", first.spaced)
        joined.append(token)
    return joined


def _continues(before: list[Token], token: Token) -> bool:
    first, comma = before[-2:]
    head, whole = first.text.split(",")[0], token.text.partition(".")[0]
    glued = is_sign(comma, ",") and not comma.spaced and not token.spaced
    return (
        glued
        and first.kind == "number"
        and head.isdigit()
        and len(head) < 4
        and whole.isdigit()
        and len(whole) == 3
    )


# ---- equations and inequalities ----


def _part(tokens: Tokens) -> Answer:
    sides, operators = split(tokens, lambda t: t.text if is_sign(t, *_RELATIONS) else "")
    if not operators:
        return Answer("", body_of(tokens))
    if operators == ["in"]:
        label = _label(sides[0])
        if not label:
            raise UnreadError("what is in the set?")
        return Answer(label, body_of(sides[1]))
    if set(operators) == {"="}:
        return _equation(sides)
    return _inequality(sides, operators)


def _label(tokens: Tokens) -> str:
    """Return the name that a side of an equation is, '' for anything else: x, f(x), AB, words."""
    texts = [t.text for t in tokens]
    kinds = {t.kind for t in tokens}
    if kinds == {"word"}:
        return " ".join(texts).lower()
    if variable := _variable(tokens):
        return variable
    if len(tokens) > 3 and tokens[0].kind == "name" and texts[1] == "(" and texts[-1] == ")":
        inner = tokens[2:-1]
        if all(t.kind in ("name", "number") or is_sign(t, ",") for t in inner):
            return "".join(texts)
    if is_sign(tokens[0], "angle") or (texts[0] == "m" and len(tokens) > 1 and is_sign(tokens[1], "angle")):
        rest = [t for t in tokens if not is_sign(t, "angle") and t.text != "m"]
        return (
            "angle " + "".join(t.text for t in rest) if rest and all(t.kind == "name" for t in rest) else ""
        )
    if 2 <= len(tokens) <= 3 and kinds == {"name"} and all(t.text.isupper() for t in tokens):
        return "".join(texts)
    return ""


def _variable(tokens: Tokens) -> str:
    if not tokens or tokens[0].kind != "name":
        return ""
    try:
        node = parse(tokens)
    except UnreadError:
        return ""
    return node[1] if node[0] == "name" else ""


def _equation(sides: list[Tokens]) -> Answer:
    if len(sides) > 2:
        return _chain(sides)
    left_side, right_side = sides
    if not (_variable(left_side) and _variable(right_side)):
        for side, other in ((left_side, right_side), (right_side, left_side)):
            if (label := _label(side)) and (named := _named(label, _variable(side), other)):
                return named
    left, right = map(parse, sides)
    if not names(left) | names(right):
        return Answer("", Value(_same([left, right])))
    return Answer("", Relation("=", left, right))


def _named(label: str, variable: str, tokens: Tokens) -> Answer | None:
    """Return what `label` is said to be, or None if it is the variable, and occurs in that as well."""
    body = body_of(tokens)
    if variable and any(variable in names(node) for node in nodes(body)):
        return None
    if variable and isinstance(body, Value) and not body.unit:
        return Answer(label, body, Relation("=", ("name", variable), body.node))
    return Answer(label, body)


def _chain(sides: list[Tokens]) -> Answer:
    """Read x = 6/4 = 3/2, where all that follows the name is one value, as x = 3/2."""
    label = _label(sides[0])
    node = _same([parse(side) for side in (sides[1:] if label else sides)])
    if not label:
        return Answer("", Value(node))
    variable = _variable(sides[0])
    return Answer(label, Value(node), Relation("=", ("name", variable), node) if variable else None)


def _same(sides: list[Node]) -> Node:
    greatest = max(map(magnitude, sides)) + 64
    if len({fingerprint(side, greatest) for side in sides}) > 1:
        raise UnreadError("an equation that does not hold")
    return sides[-1]


def _inequality(sides: list[Tokens], operators: list[str]) -> Answer:
    if operators == ["ne"]:
        return Answer("", Relation("!=", parse(sides[0]), parse(sides[1])))
    if set(operators) <= {">", "ge"}:
        sides, operators = sides[::-1], [{">": "<", "ge": "le"}[o] for o in operators[::-1]]
    if not set(operators) <= {"<", "le"} or len(operators) > 2:
        raise UnreadError("relations of several directions")
    bounds = [body_of(side) for side in sides]
    middle = 1 if len(sides) == 3 or _variable(sides[1]) else 0
    label = _variable(sides[middle])
    others = bounds[:middle] + bounds[middle + 1 :]
    if label and all(
        isinstance(b, Symbol) or (isinstance(b, Value) and not b.unit and not names(b.node)) for b in others
    ):
        low = bounds[middle - 1] if middle else Symbol("-∞")
        high = bounds[middle + 1] if middle + 1 < len(bounds) else Symbol("∞")
        left = "[" if middle and operators[middle - 1] == "le" else "("
        right = "]" if middle < len(operators) and operators[middle] == "le" else ")"
        return Answer(label, Group(left + right, (low, high)))
    signs = ["<=" if operator == "le" else "<" for operator in operators]
    relations = [
        Answer("", Relation(sign, parse(a), parse(b)))
        for sign, (a, b) in zip(signs, pairwise(sides), strict=True)
    ]
    return relations[0] if len(relations) == 1 else Answer("", Group("system", tuple(relations)))


# ---- several ----


def _several(answers: list[Answer], joints: list[str]) -> Answer:
    """Join what commas, "and" and "or" separate: values, the solutions of one variable, or a system."""
    if {"lor", "land"} & set(joints) and not all(a.label or isinstance(a.body, Relation) for a in answers):
        raise UnreadError("a logical formula")
    joints = [{"lor": "or", "land": "and"}.get(joint, joint) for joint in joints]
    bodies = [a.body for a in answers]
    if (
        set(joints) != {","}
        and not any(a.label for a in answers)
        and any(names(n) for body in bodies for n in nodes(body))
    ):
        raise UnreadError("a logical formula")
    labels = [a.label for a in answers]
    intervals = [isinstance(b, Group) and b.kind in ("()", "(]", "[)", "[]") for b in bodies]
    one_label = len(set(labels)) == 1 or not any(labels[1:])  # "x = 1, x = 2" and "x = 1, 2"
    if any(
        isinstance(b, Relation) or (isinstance(b, Group) and b.kind in ("union", "system")) for b in bodies
    ):
        one_label = False
    if one_label and labels[0] and any(intervals):
        if all(intervals) and set(joints) == {"or"} and len(set(labels)) == 1:
            return Answer(labels[0], Group("union", tuple(bodies)))
        raise UnreadError("conditions joined by and")
    if one_label:
        return Answer(labels[0], Group("list", tuple(bodies)))
    if "or" in joints:
        raise UnreadError("alternatives of several kinds")
    if not all(a.label or isinstance(a.body, Relation) for a in answers):
        raise UnreadError("equations and values")
    return Answer("", Group("system", tuple(answers)))
