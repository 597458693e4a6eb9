"""From a tree to trajectories to learn from: pairs of a good and a bad episode, the point of transition, the splice of both.

Agent-R 1.3 to 1.5 and 1.9, with the faults of the released code (1.8) made impossible: see each function.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pipeline.engines.base import Message
from pipeline.ids import unit_interval
from stages.environments import REFLECT
from stages.methods.agent_r.search import DONE, Game, Node, Tree


@dataclass(slots=True, frozen=True)
class PairRules:
    """What makes a pair, and how many there may be."""

    alpha: float  # least reward of a good episode
    beta: float  # the good one's reward exceeds the bad one's by more than this
    per_bad: int
    per_task: int
    seed: int


class Pair(NamedTuple):
    """A good and a bad terminal leaf of one tree; their ways have the first `prefix` steps in common."""

    good: Node
    bad: Node
    prefix: int


def good_leaves(tree: Tree, alpha: float) -> list[Node]:
    """Return the terminal leaves with a reward of at least alpha. At least: with alpha 1.0 perfect episodes are kept (F2)."""
    return [leaf for leaf in tree.leaves() if leaf.reward >= alpha]


def pairs(tree: Tree, rules: PairRules, row: str) -> list[Pair]:
    """Return the pairs of a tree: for each bad leaf the good ones that branch off latest, of those the shortest ways, `per_bad` of them.

    Not all against all: near-duplicates, and tasks with many leaves, would dominate (F12). Of more than `per_task` pairs a seeded draw
    is kept. Where two ways part is a matter of nodes, not of texts, and no sibling has another's action: the prefix is really common.
    """
    good, chosen = good_leaves(tree, rules.alpha), []

    def draw(pair: Pair) -> float:
        return unit_interval(rules.seed, "pair", row, pair.good.id, pair.bad.id)

    for bad in tree.leaves():
        found = [Pair(g, bad, _common(tree, g, bad)) for g in good if g.reward - bad.reward > rules.beta]
        found.sort(key=lambda p: (-p.prefix, p.good.depth, draw(p)))
        chosen += found[: rules.per_bad]
    kept = set(sorted(range(len(chosen)), key=lambda i: draw(chosen[i]))[: rules.per_task])
    return [pair for i, pair in enumerate(chosen) if i in kept]


def _common(tree: Tree, a: Node, b: Node) -> int:
    """Return the depth of the deepest common ancestor."""
    return len(set(tree.ancestors(a)) & set(tree.ancestors(b))) - 1


def transition(prefix: int, bad: Sequence[Node], first_bad: int | None) -> int | None:
    """Return t', how many steps of the bad way come before the reflection, or None when there is no such place.

    `first_bad` is the step (from 1) that the judge called bad. Without one, all of the way is taken. Nothing can follow a step that
    ended the episode (F10), and before the ways part there is nothing to correct (F7).
    """
    last = len(bad) - (bad[-1].end == DONE)
    t = min(first_bad or len(bad), last)
    return t if t > prefix else None


def steps_of(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """Return the turns of a way as JSON values."""
    return [
        {"response": n.response, "action": n.action, "observation": n.observation, "executed": n.executed}
        for n in nodes
    ]


@dataclass(slots=True, frozen=True)
class Rejected:
    """Why a trajectory is not learnt from."""

    reason: Literal["over_before_reflection", "step_not_executed", "reward_too_low"]
    detail: str


class Verified(NamedTuple):
    """A trajectory as it really went: its turns after the first observation, whether each is learnt, and the final reward."""

    messages: list[Message]
    learn: list[bool]
    reward: float


def replay(
    game: Game,
    before: Sequence[dict[str, Any]],
    reflection: str,
    after: Sequence[dict[str, Any]],
    alpha: float,
) -> Verified | Rejected:
    """Do a trajectory again in the real environment, from its start: the bad steps `before`, the reflection, the good steps `after`.

    Kept only if it ends with a reward of at least alpha, with the observations that were really made (F8): those in the tree are of
    states without the bad steps. Loss falls on the reflection and on what comes after it. The reflection is an action that every
    environment has and answers (F9). Without one ("") it is a good episode: every turn is learnt, and an action that was impossible
    when it was first tried may be so again. Blocking: call it in a thread.
    """
    game.start()
    said: list[tuple[str, str, bool]] = []  # turn, observation, learnt
    reward = 0.0
    for step in before:
        found = game.step(step["action"])
        said.append((step["response"], found.observation, False))
        if found.done:
            return Rejected("over_before_reflection", f"{step['action']!r} ended the episode")
    if reflection:
        said.append((reflection, game.step(REFLECT).observation, True))
    for step in after:
        found = game.step(step["action"])
        if not found.info.get("executed", True) and (reflection or step["executed"]):
            return Rejected("step_not_executed", f"{step['action']!r}: {found.observation}")
        said.append((step["response"], found.observation, True))
        reward = found.reward
        if found.done:
            break
    if reward < alpha:
        return Rejected("reward_too_low", f"{reward:g} after {len(said)} turns, {alpha:g} needed")
    messages, learn = [], []
    for turn, observation, loss in said:
        messages += [{"role": "assistant", "content": turn}, {"role": "user", "content": observation}]
        learn += [loss, False]
    return Verified(messages[:-1], learn[:-1], reward)  # nothing follows the last observation
