"""The search tree as judge: what was found below a step says whether it was bad. Asks no model.

Not part of the paper, whose judge is the policy. A search has tried more than one way on from most states, so
the rewards that it backed up know where an episode could still be saved.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from stages.methods.agent_r.search import Node, Tree
from stages.methods.agent_r.search.turns import normalize_action
from stages.methods.agent_r.step_judge import BAD, GOOD, UNCERTAIN, judgement


class TreeJudge:
    """Judges a tree's steps by the leaves below them.

    A leaf is good enough if the bad episode could be paired with it: a reward of at least `alpha`, and more
    than `beta` above its own. A step is

    - good if a leaf that is good enough is below it, or below another node with the state of one below it
      (which the search merged). After a step back, or one that changes nothing, only leaves below it count:
      whatever else can be reached could be reached before;
    - uncertain if there is none, but the good episode takes the same action later, so that only the order
      differs; as often as it takes it, only if it could be executed, and not as the last one;
    - bad otherwise.

    So the first bad step is the one after which the best reward below falls short of what the way of the good
    episode has. An episode that ran out of steps where it could still be saved may have none. Where few
    leaves are below a step, that none is good enough can be chance.
    """

    def __init__(self, tree: Tree, alpha: float, beta: float) -> None:
        self._tree, self._alpha, self._beta = tree, alpha, beta
        self._same: defaultdict[str, list[Node]] = defaultdict(list)  # by state
        for node in tree.nodes:
            self._same[node.state].append(node)
        self._found: dict[int, tuple[float, int]] = {}  # by node id: a step may be in several pairs

    async def first_bad(
        self, path: Sequence[Node], after: int, good: Sequence[Node]
    ) -> tuple[int | None, list[dict[str, Any]]]:
        """As `Judge.first_bad`."""
        enough = max(self._alpha, path[-1].reward + self._beta)
        later = Counter(normalize_action(node.action) for node in good)
        judgements = []
        for at, node in enumerate(path[after:], after + 1):
            best, leaves = self._best_below(node)
            saved = best >= self._alpha and best - path[-1].reward > self._beta
            action = normalize_action(node.action)
            other_order = node.executed and not node.terminal and later[action] > 0
            later[action] -= 1
            label = GOOD if saved else UNCERTAIN if other_order else BAD
            text = f"best reward of {leaves} leaves below: {best:g}; good enough: {enough:g}"
            judgements.append(judgement(node, label, text))
            if label == BAD:
                return at, judgements
        return None, judgements

    def _best_below(self, node: Node) -> tuple[float, int]:
        """Return the best reward of the terminal leaves within reach of a node, and their number."""
        if node.id not in self._found:
            rewards = [at.reward for at in self._reach(node) if at.terminal]
            self._found[node.id] = max(rewards, default=0.0), len(rewards)
        return self._found[node.id]

    def _reach(self, node: Node) -> Iterator[Node]:
        """Yield the nodes below a node, itself included, and those below others with the same states; after
        a step that led back, only those below it.
        """
        done = {self._tree.nodes[i].state for i in self._tree.ancestors(node) if i != node.id}
        merged = node.state not in done
        reached, waiting = {node.id}, [node]
        while waiting:
            at = waiting.pop()
            yield at
            twins = self._same[at.state] if merged and at.state not in done else ()
            done.add(at.state)
            around = (*(self._tree.nodes[i] for i in at.children), *twins)
            new = [other for other in around if other.id not in reached]
            reached.update(other.id for other in new)
            waiting += new
