"""What a mathematical answer can be: a value, a symbol, a relation, or a group of them."""

from typing import NamedTuple, Union

from stages.answers.expressions import Node


class Value(NamedTuple):
    """An expression, its unit ('' if none), and whether commas group its digits."""

    node: Node
    unit: str = ""
    grouped: bool = False


class Symbol(NamedTuple):
    r"""What only equals itself: an infinity, \mathbb{R}."""

    text: str


class Relation(NamedTuple):
    """An equation or inequality: `operator` is =, <, <= or != between two expressions."""

    operator: str
    left: Node
    right: Node


class Group(NamedTuple):
    """Several things. `kind` is the brackets of a tuple or interval, "{}", list, union, system or a matrix's
    number of columns.
    """

    kind: str
    items: tuple["Body | Answer", ...]


Body = Union[Value, Symbol, Relation, Group]  # noqa: UP007  (recursive)


class Answer(NamedTuple):
    """A body and what it is said to be: "x" in "x = 3". `relation` is the same as an equation, where it is
    one.
    """

    label: str
    body: Body
    relation: Relation | None = None


def nodes(body: "Body | Answer") -> list[Node]:
    """Return every expression in a body."""
    if isinstance(body, Answer):
        return nodes(body.body)
    if isinstance(body, Value):
        return [body.node]
    if isinstance(body, Relation):
        return [("add", body.left, ("negative", body.right)), body.left, body.right]
    return [node for item in body.items for node in nodes(item)] if isinstance(body, Group) else []
