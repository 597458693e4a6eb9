"""The search tree: UCB1 over the rewards of terminal leaves. Independent of models and environments.

Best-first expansion without rollouts or value network: a node's value comes from its terminal leaves alone,
each backed up once. (Agent-R's code calls it PUCT; its formula is UCB1, Auer et al. 2002.)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# Why a node ends. The first four are terminal: the end of an episode, whose reward counts. A repeat has the
# state of another node, which is expanded instead.
DONE, DEPTH, REFUSED, CUT_OFF, REPEAT = "done", "depth", "refused", "cut_off", "repeat"
TERMINAL = (DONE, DEPTH, REFUSED, CUT_OFF)


@dataclass(slots=True)
class Node:
    """One state, with the turn that led to it.

    `reward` is the episode's so far, in [0, 1]; `value` the sum of rewards over the terminal leaves below.
    """

    id: int
    parent: int | None
    depth: int  # actions since the root
    response: str
    action: str
    observation: str
    reward: float
    executed: bool
    state: str
    end: str = ""
    visits: int = 0
    value: float = 0.0
    children: list[int] = field(default_factory=list)
    closed: bool = False  # nothing left to expand below

    @property
    def terminal(self) -> bool:
        """Tell whether an episode ends here."""
        return self.end in TERMINAL


def ucb(value: float, visits: int, parent_visits: int, c: float) -> float:
    """Return UCB1: mean reward plus c * sqrt(ln(parent visits) / visits), infinite for an unvisited child."""
    return math.inf if not visits else value / visits + c * math.sqrt(math.log(parent_visits) / visits)


class Tree:
    """Nodes by id in order of creation, the root first, so that the same search gives the same ids."""

    def __init__(self, observation: str, state: str) -> None:
        self.nodes = [Node(0, None, 0, "", "", observation, 0.0, True, state)]

    @property
    def root(self) -> Node:
        return self.nodes[0]

    def grow(self, parent: Node, made: Sequence[Node]) -> None:
        """Add the children of an expansion: back up the terminal ones once each, close what is exhausted."""
        for node in made:
            node.id, node.parent, node.depth = len(self.nodes), parent.id, parent.depth + 1
            self.nodes.append(node)
            parent.children.append(node.id)
        for node in made:  # once all are in place, so that one terminal child does not close its parent
            if node.terminal:
                self._back_up(node)
            node.closed = bool(node.end)
        self._close(parent)

    def end(self, node: Node, why: str) -> None:
        """End a node that turned out to have no children."""
        node.end, node.closed = why, True
        if node.terminal:
            self._back_up(node)
        if node.parent is not None:
            self._close(self.nodes[node.parent])

    def descend(self, node: Node, c: float, tie: Callable[[int], float]) -> Node | None:
        """Return the open child with the highest UCB, then `tie`; None if all are closed."""
        children = (self.nodes[i] for i in node.children)
        return max(
            (n for n in children if not n.closed),
            key=lambda n: (ucb(n.value, n.visits, node.visits, c), tie(n.id)),
            default=None,
        )

    def path(self, node: Node) -> list[Node]:
        """Return the nodes from below the root to `node`, one per action."""
        steps = []
        while node.parent is not None:
            steps.append(node)
            node = self.nodes[node.parent]
        return steps[::-1]

    def leaves(self) -> list[Node]:
        """Return the terminal leaves in order of creation."""
        return [node for node in self.nodes if node.terminal]

    def ancestors(self, node: Node) -> list[int]:
        """Return the ids from the root to `node`, inclusive."""
        return [0, *(step.id for step in self.path(node))]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the nodes as JSON values."""
        return [{k: v for k, v in asdict(node).items() if k != "children"} for node in self.nodes]

    @classmethod
    def from_json(cls, nodes: Sequence[dict[str, Any]]) -> "Tree":
        """Rebuild the tree written by `to_json`."""
        tree = cls("", "")
        tree.nodes = [Node(**node) for node in nodes]
        for node in tree.nodes[1:]:
            tree.nodes[node.parent or 0].children.append(node.id)
        return tree

    def _back_up(self, leaf: Node) -> None:
        for i in self.ancestors(leaf):
            self.nodes[i].visits += 1
            self.nodes[i].value += leaf.reward

    def _close(self, node: Node | None) -> None:
        while node is not None and node.children and all(self.nodes[i].closed for i in node.children):
            node.closed = True
            node = None if node.parent is None else self.nodes[node.parent]
