"""From a tree to trajectories to train on: pairs of a good and a bad episode, their splice, and its replay.

Source: Agent-R (Yuan et al. 2025, arXiv 2501.11425).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pipeline.engines.base import Message
from pipeline.ids import unit_interval
from stages.environments import REFLECT
from stages.methods.agent_r.search import DONE, Game, Node, Tree
from stages.methods.agent_r.search.turns import exchange


@dataclass(slots=True, frozen=True)
class PairRules:
    """What makes a pair, and the caps on their number."""

    alpha: float  # minimum reward of a good episode
    beta: float  # the good episode's reward exceeds the bad one's by more than this
    per_bad: int
    per_task: int
    seed: int


class Pair(NamedTuple):
    """A good and a bad terminal leaf of one tree whose paths share their first `prefix` steps."""

    good: Node
    bad: Node
    prefix: int


def good_leaves(tree: Tree, alpha: float) -> list[Node]:
    """Return the terminal leaves with a reward of at least alpha: with alpha 1.0, the perfect episodes."""
    return [leaf for leaf in tree.leaves() if leaf.reward >= alpha]


def pairs(tree: Tree, rules: PairRules, row: str) -> list[Pair]:
    """Pair each bad leaf with the `per_bad` good ones that branch off latest, shortest first.

    Pairing all with all would let near-duplicates and tasks with many leaves dominate. Beyond `per_task`
    pairs, a seeded sample is kept. Paths part by node, and no sibling repeats an action, so the prefix really
    is shared.
    """
    good, chosen = good_leaves(tree, rules.alpha), []

    def draw(pair: Pair) -> float:
        return unit_interval(rules.seed, "pair", row, pair.good.id, pair.bad.id)

    for bad in tree.leaves():
        path = set(tree.ancestors(bad))
        better = [g for g in good if g.reward - bad.reward > rules.beta]
        found = [Pair(g, bad, len(path.intersection(tree.ancestors(g))) - 1) for g in better]
        chosen += sorted(found, key=lambda p: (-p.prefix, p.good.depth, draw(p)))[: rules.per_bad]
    kept = set(sorted(range(len(chosen)), key=lambda i: draw(chosen[i]))[: rules.per_task])
    return [pair for i, pair in enumerate(chosen) if i in kept]


def transition(prefix: int, bad: Sequence[Node], first_bad: int | None) -> int | None:
    """Return t', how many steps of the bad path precede the reflection, or None if there is no such point.

    `first_bad` is the judge's bad step (from 1); without one, t' is the last step. Nothing can follow a step
    that ended the episode, and before the paths part there is nothing to correct.
    """
    last = len(bad) - (bad[-1].end == DONE)
    t = min(first_bad or len(bad), last)
    return t if t > prefix else None


def steps_of(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """Return the turns of a path as JSON values."""
    fields = ("response", "action", "observation", "executed")
    return [{name: getattr(node, name) for name in fields} for node in nodes]


@dataclass(slots=True, frozen=True)
class Rejected:
    """Why a trajectory is dropped."""

    reason: Literal["over_before_reflection", "step_not_executed", "reward_too_low"]
    detail: str


class Verified(NamedTuple):
    """A replayed trajectory: its messages after the first observation, a loss flag for each, its reward."""

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
    """Play the bad steps `before`, the reflection and the good steps `after` in a fresh environment.

    A trajectory passes if it ends with a reward of at least alpha. It gets the observations made here: those
    in the tree belong to states without the bad steps. Loss falls on the reflection and everything after it.
    The reflection is an action that every environment answers. Without one ("") this is a good episode: every
    turn has loss, and an action that was impossible in the search may be so again. Blocking: call it in a
    thread.
    """
    game.start()
    messages: list[Message] = []
    learn: list[bool] = []  # whether a message has loss
    reward = 0.0
    for step in before:
        result = game.step(step["action"])
        messages += exchange(step["response"], result.observation)
        learn += [False, False]
        if result.done:
            return Rejected("over_before_reflection", f"{step['action']!r} ended the episode")
    if reflection:
        messages += exchange(reflection, game.step(REFLECT).observation)
        learn += [True, False]
    for step in after:
        result = game.step(step["action"])
        if not result.info.get("executed", True) and (reflection or step["executed"]):
            return Rejected("step_not_executed", f"{step['action']!r}: {result.observation}")
        messages += exchange(step["response"], result.observation)
        learn += [True, False]
        reward = result.reward
        if result.done:
            break
    if reward < alpha:
        return Rejected("reward_too_low", f"{reward:g} after {len(messages) // 2} turns, {alpha:g} needed")
    return Verified(messages[:-1], learn[:-1], reward)  # nothing follows the last observation
