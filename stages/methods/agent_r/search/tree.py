"""The search tree: UCB1 over rewards that terminal leaves back up. It knows no model and no environment.

Agent-R 1.2: a best-first expansion. No rollout policy and no value network: a node's value comes from its terminal leaves alone, each
backed up once. (Called PUCT in the paper's code; its formula is UCB1, Auer et al. 2002.)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# Why nothing follows a node. The first four are terminal: leaves of an episode, whose reward counts. A repeat is the state of a node
# elsewhere in the tree, where it is searched on.
DONE, DEPTH, REFUSED, CUT_OFF, REPEAT = "done", "depth", "refused", "cut_off", "repeat"
TERMINAL = (DONE, DEPTH, REFUSED, CUT_OFF)


@dataclass(slots=True)
class Node:
    """One state, with the turn that led to it. `reward` is the episode's so far, in [0, 1]; `value` the sum over its terminal leaves."""

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
    closed: bool = False  # nothing below it is left to expand

    @property
    def terminal(self) -> bool:
        """Tell whether an episode ends here."""
        return self.end in TERMINAL


def ucb(value: float, visits: int, parent_visits: int, c: float) -> float:
    """Return UCB1: the mean reward of a child plus c * sqrt(ln(parent's visits) / its visits); infinite for an unvisited child."""
    return math.inf if not visits else value / visits + c * math.sqrt(math.log(parent_visits) / visits)


class Tree:
    """Nodes by id, the root first. A node's id tells when it was made, so that the same search gives the same ids."""

    def __init__(self, observation: str, state: str) -> None:
        self.nodes = [Node(0, None, 0, "", "", observation, 0.0, True, state)]

    @property
    def root(self) -> Node:
        return self.nodes[0]

    def grow(self, parent: Node, made: Sequence[Node]) -> None:
        """Put the children of an expansion below `parent`; back the terminal ones up, each once, and close what is exhausted."""
        for node in made:
            node.id, node.parent, node.depth = len(self.nodes), parent.id, parent.depth + 1
            self.nodes.append(node)
            parent.children.append(node.id)
        for node in made:  # after all are there: one terminal child must not close its parent
            if node.terminal:
                self._back_up(node)
            node.closed = bool(node.end)
        self._close(parent)

    def end(self, node: Node, why: str) -> None:
        """End a node that has no children, though it looked as if it could be gone on from."""
        node.end, node.closed = why, True
        if node.terminal:
            self._back_up(node)
        if node.parent is not None:
            self._close(self.nodes[node.parent])

    def descend(self, node: Node, c: float, tie: Callable[[int], float]) -> Node | None:
        """Return the child to go on with: the best by UCB that is not closed, of equals the one whose `tie` is highest; None if all are."""
        there = [self.nodes[i] for i in node.children]
        return max(
            (n for n in there if not n.closed),
            key=lambda n: (ucb(n.value, n.visits, node.visits, c), tie(n.id)),
            default=None,
        )

    def path(self, node: Node) -> list[Node]:
        """Return the nodes from below the root to `node`: one for each action."""
        steps = []
        while node.parent is not None:
            steps.append(node)
            node = self.nodes[node.parent]
        return steps[::-1]

    def leaves(self) -> list[Node]:
        """Return the terminal leaves, in the order they were made."""
        return [node for node in self.nodes if node.terminal]

    def ancestors(self, node: Node) -> list[int]:
        """Return the ids from the root to `node`, which is the last."""
        return [0, *(step.id for step in self.path(node))]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the nodes as JSON values."""
        return [{k: v for k, v in asdict(node).items() if k != "children"} for node in self.nodes]

    @classmethod
    def from_json(cls, nodes: Sequence[dict[str, Any]]) -> "Tree":
        """Return the tree that `to_json` wrote."""
        tree = cls("", "")
        tree.nodes = [Node(**node) for node in nodes]
        for node in tree.nodes[1:]:
            tree.nodes[node.parent].children.append(node.id)
        return tree

    def _back_up(self, leaf: Node) -> None:
        at: Node | None = leaf
        while at is not None:
            at.visits += 1
            at.value += leaf.reward
            at = None if at.parent is None else self.nodes[at.parent]

    def _close(self, node: Node | None) -> None:
        while node is not None and node.children and all(self.nodes[i].closed for i in node.children):
            node.closed = True
            node = None if node.parent is None else self.nodes[node.parent]
