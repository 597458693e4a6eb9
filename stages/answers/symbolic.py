"""Equality of mathematical answers: of their values where both are read whole, else of their texts."""

import re
from functools import lru_cache

from stages.answers import structure
from stages.answers.algebra import fingerprint, magnitude, ratios
from stages.answers.expressions import names
from stages.answers.reading import Options, Reading
from stages.answers.shapes import Answer, Body, Group, Relation, Symbol, Value, nodes
from stages.answers.tokens import UnreadError, tokenize
from stages.answers.typography import in_latex, tidy

MAX_CHARS = 1000  # longer expressions are compared as text only
WRONG, NOT_COMPARABLE = "wrong", "not_comparable"

_PROSE = re.compile(r"(?i:yes|no)|(?=.*[a-z])(?=.*[^\W\d_]{3})[^\W\d_]+(?:[ ,'-]+[^\W\d_]+)*[.!]?")
_PIECES = re.compile(r"[A-Za-z]{2,}|\\[A-Za-z]+|\\.|[0-9]+(?:\.[0-9]+)?|\S", re.DOTALL)
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox|operatorname)\s*\{([^{}]*)\}")
_GROUPED = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_SINGLE = re.compile(r"\{\s*(\w|\\[A-Za-z]+)\s*\}")
_VARIABLE = re.compile(r"[A-Za-z]|\\[a-z]+|[A-Za-z]\([a-z]\)|")
_ANYWHERE = re.compile(r"(?<=[0-9a-f]{24})\|[0-9a-f]{24}")


def read(text: str, options: Options) -> Reading:
    """Read an answer of type math. The key only recognizes equal texts; `difference` compares values."""
    return Reading(text, " ".join(text.split()))


def text_form(text: str) -> str:
    """Return `text` in one spelling, which texts share that say the same in the same order."""
    text = _GROUPED.sub(",,", tidy(in_latex(text)))
    if _PROSE.fullmatch(" ".join(text.split())):
        return " ".join(text.casefold().split()).rstrip(".!")
    return (
        " ".join(_PIECES.findall(_SINGLE.sub(r" \1 ", _TEXT.sub(r" \1 ", text)))).removesuffix(" .") or text
    )


def difference(a: str, b: str) -> str:
    """Return why two answers are not equal, wrong or (if that is not certain) not_comparable, or ''."""
    return "" if a.split() == b.split() else _difference(*sorted((a, b)))


def canonical(text: str) -> str:
    """Return a key that equal answers share, and others do not. "x = 5" counts as 5; "a_7 = 5" does not."""
    answer = _read(text)
    if answer is None:
        return text_form(text)
    return _key(answer.body if _VARIABLE.fullmatch(answer.label) else answer, _greatest(answer.body))


@lru_cache(maxsize=4096)
def _read(text: str) -> Answer | None:
    """Return an answer whose every expression has a value, or None."""
    if len(text) > MAX_CHARS:
        return None
    try:
        answer = structure.read(tokenize(tidy(in_latex(text))))
        _key(answer.body, _greatest(answer.body))
    except (UnreadError, RecursionError):
        return None
    return answer


@lru_cache(maxsize=4096)
def _difference(a: str, b: str) -> str:
    left, right = _read(a), _read(b)
    if left is None or right is None:
        forms = text_form(a), text_form(b)
        words = all(re.fullmatch("[a-z]{3,}|no", form) for form in forms)
        same = left is right and forms[0] == forms[1]  # if only one is read, the other says something else
        return "" if same else WRONG if words else NOT_COMPARABLE
    try:
        problem = _of_answers(left, right)
    except UnreadError:
        return NOT_COMPARABLE
    # What a logarithm without a base means is not certain, so a difference is not either.
    unmarked = ["\\log" in _names(answer.body) for answer in (left, right)]
    return NOT_COMPARABLE if problem and unmarked[0] != unmarked[1] else problem


def _of_answers(left: Answer, right: Answer) -> str:
    relations = [a.body if isinstance(a.body, Relation) else a.relation for a in (left, right)]
    bare = [not a.label and not isinstance(a.body, Relation) for a in (left, right)]
    if not any(bare) and relations[0] and relations[1]:
        return _of_bodies(relations[0], relations[1])
    if any(isinstance(a.body, Relation) for a in (left, right)):
        return NOT_COMPARABLE
    if left.label and right.label and left.label != right.label:
        return NOT_COMPARABLE
    return _of_bodies(left.body, right.body)


def _of_bodies(left: Body, right: Body) -> str:
    greatest = max(_greatest(left), _greatest(right))
    if isinstance(left, Value) and isinstance(right, Value):
        return _of_values(left, right, greatest)
    keys = [_key(body, greatest) for body in (left, right)]
    if keys[0] == keys[1]:
        return ""
    unlike = [_loose(_key(_without_units(body), greatest)) for body in (left, right)]
    if unlike[0] == unlike[1]:
        return NOT_COMPARABLE
    if _shape(left) == _shape(right):
        return WRONG
    if "system" in (_shape(left), _shape(right)) or _parts(left, greatest) == _parts(right, greatest):
        return NOT_COMPARABLE
    # 100,200: one number or two?
    grouped = any(isinstance(body, Value) and body.grouped for body in (left, right))
    return NOT_COMPARABLE if grouped else WRONG


def _shape(body: Body) -> str:
    """Return what a body is; two of one shape that differ are surely different."""
    if not isinstance(body, Group):
        return type(body).__name__
    return {"list": "{}", "(]": "()", "[)": "()", "[]": "()"}.get(body.kind, body.kind)


def _of_values(left: Value, right: Value, greatest: int) -> str:
    keys = [fingerprint(value.node, greatest) for value in (left, right)]
    units = (left.unit, right.unit)
    if units[0] != units[1]:
        return _of_units(left, right, keys)
    if keys[0] == keys[1]:
        return ""
    percents = [value.node[0] == "percent" for value in (left, right)]
    if percents[0] != percents[1]:
        inner = [value.node[1] if value.node[0] == "percent" else value.node for value in (left, right)]
        if len({fingerprint(node, greatest) for node in inner}) == 1:
            return NOT_COMPARABLE
    return NOT_COMPARABLE if _loose(keys[0]) == _loose(keys[1]) else WRONG


def _of_units(left: Value, right: Value, keys: list[str]) -> str:
    """Compare values of different units, or of one and none, as when the question has named it."""
    if (left.unit and right.unit) or any(v.unit.startswith("base") for v in (left, right)):
        return NOT_COMPARABLE
    with_unit, bare = (left, right) if left.unit else (right, left)
    if keys[0] == keys[1]:
        return NOT_COMPARABLE if bare.node[0] == "percent" else ""
    if with_unit.unit == "degree":
        radians = ("degrees", with_unit.node)
        greatest = max(magnitude(radians), magnitude(bare.node))
        return "" if fingerprint(radians, greatest) == fingerprint(bare.node, greatest) else WRONG
    return NOT_COMPARABLE if names(bare.node) or bare.node[0] == "percent" else WRONG


def _greatest(body: Body | Answer) -> int:
    """Return the precision that a body takes, in steps, so that equal ones rarely have different keys."""
    return max(-(-max(map(magnitude, nodes(body)), default=1) // 64), 1) * 64


def _names(body: Body) -> set[str]:
    return {name for node in nodes(body) for name in names(node)}


def _loose(key: str) -> str:
    """Return a key that only tells apart what differs where all variables are positive."""
    return _ANYWHERE.sub("", key)


def _without_units(body: Body | Answer) -> Body | Answer:
    if isinstance(body, Answer):
        return Answer(body.label, _of(_without_units(body.body)))
    if isinstance(body, Value):
        return body._replace(unit="")
    return Group(body.kind, tuple(map(_without_units, body.items))) if isinstance(body, Group) else body


def _parts(body: Body, greatest: int) -> list[str]:
    """Return what a body is made of, without its order and brackets, and without units."""
    if isinstance(body, Group):
        return sorted(part for item in body.items for part in _parts(_of(item), greatest))
    return [_key(_without_units(body), greatest)]


def _of(item: Body | Answer) -> Body:
    return item.body if isinstance(item, Answer) else item


def _key(body: Body | Answer, greatest: int) -> str:
    """Write a body so that equal ones are written equally. A degree sign is left out: 90° counts as 90."""
    if isinstance(body, Answer):
        return f"{body.label}={_key(body.body, greatest)}" if body.label else _key(body.body, greatest)
    if isinstance(body, Value):
        unit = f" {body.unit}" if body.unit not in ("", "degree") else ""
        return fingerprint(body.node, greatest) + unit
    if isinstance(body, Symbol):
        return body.text
    if isinstance(body, Relation):
        return _of_relation(body, greatest)
    keys = [_key(item, greatest) for item in body.items]
    if body.kind in ("{}", "list", "union", "system"):
        distinct = sorted(set(keys))
        if body.kind == "list" and len(distinct) < len(keys):
            return f"list {', '.join(sorted(keys))}"
        return f"{'' if body.kind in ('{}', 'list') else body.kind}{{{', '.join(distinct)}}}"
    if body.kind.isdigit():
        return f"matrix {body.kind} {', '.join(keys)}"
    return f"{body.kind[0]}{', '.join(keys)}{body.kind[1]}"


def _of_relation(relation: Relation, greatest: int) -> str:
    """Write an equation so that its multiples, and both orders, are one: by left minus right."""
    scaled = ratios(relation.left, relation.right, greatest, signed="<" in relation.operator)
    if not scaled:
        raise UnreadError("no relation between variables")
    return f"{relation.operator} {scaled}"
