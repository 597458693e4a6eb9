"""The search: grow a task's tree of episodes, one request per expanded node (Agent-R, arXiv 2501.11425)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engines.base import Completion, Message
from pipeline.errors import EngineError
from pipeline.ids import unit_interval
from pipeline.runner.llm import LLM
from stages.environments import Move, Step
from stages.methods.agent_r.search.game import Game
from stages.methods.agent_r.search.tree import CUT_OFF, DEPTH, DONE, REFUSED, REPEAT, Node, Tree
from stages.methods.agent_r.search.turns import exchange, normalize_action, whole_turn

STEP = "agent_r/rules"


@dataclass(slots=True, frozen=True)
class SearchSettings:
    """Size and shape of a tree; the method's options default to the paper's values."""

    width: int
    simulations: int
    depth: int
    c: float
    merge_states: bool
    seed: int


async def search(llm: LLM, game: Game, opening: Sequence[Message], settings: SearchSettings) -> Tree:
    """Return the tree of one task; `opening` is the conversation before the first turn.

    A function of completions and seed: a killed search, restarted, sends the same requests, and the log
    answers the finished ones. If every first turn is truncated, the root has an `end` and no children. Raises
    EngineError when the engine refuses the opening.
    """
    tree = Tree(*await asyncio.to_thread(game.start))

    def tie(node: int) -> float:
        return unit_interval(settings.seed, "tie", llm.row, node)

    for _ in range(settings.simulations):
        node: Node | None = tree.root
        while node is not None and not node.closed:
            if not node.children:
                await _expand(tree, node, llm, game, opening, settings)
            node = tree.descend(node, settings.c, tie)
        if tree.root.closed:
            break
    return tree


async def _expand(
    tree: Tree, node: Node, llm: LLM, game: Game, opening: Sequence[Message], settings: SearchSettings
) -> None:
    """Sample `width` turns in one request, and play each distinct action."""
    conversation = list(opening)  # never shortened: what does not fit ends the episode
    for n in tree.path(node):
        conversation += exchange(n.response, n.observation)
    try:
        sampled = await llm.chat(conversation, step=STEP, n=settings.width)
    except EngineError as e:
        if not e.refused or node is tree.root:
            raise
        tree.end(node, REFUSED)  # usually the conversation has outgrown the model's context
        return
    turns = _distinct(game, sampled)
    if not turns:
        tree.end(node, CUT_OFF)
        return
    reached = await asyncio.to_thread(game.branch, node.id, [action for _, action in turns], len(tree.nodes))
    made: list[Node] = []
    for turn, (step, state) in zip(turns, reached, strict=True):
        end = _end(tree, node, step, state, settings, made)
        executed = bool(step.info.get("executed", True))
        made.append(Node(0, None, 0, *turn, step.observation, step.reward, executed, state, end))
    tree.grow(node, made)


def _distinct(game: Game, sampled: Sequence[Completion]) -> list[Move]:
    """Return the moves of the complete samples, the first of those with the same action."""
    first: dict[str, Move] = {}
    for completion in sampled:
        if move := whole_turn(game, completion):
            first.setdefault(normalize_action(move.action), move)
    return list(first.values())


def _end(
    tree: Tree, parent: Node, step: Step, state: str, settings: SearchSettings, siblings: Sequence[Node]
) -> str:
    """Return why a child ends, "" if it does not; `siblings` are its earlier ones, not in the tree yet.

    With `merge_states`, a state that a node with as many actions left has already is a repeat. An ancestor's
    state is not: an action that changed nothing is a mistake to learn from.
    """
    if step.done or parent.depth + 1 >= settings.depth:
        return DONE if step.done else DEPTH
    own = {tree.nodes[i].state for i in tree.ancestors(parent)}
    if not settings.merge_states or state in own:
        return ""
    others = (*siblings, *(n for n in tree.nodes if n.depth <= parent.depth + 1))
    return REPEAT if any(n.state == state and n.end != REPEAT for n in others) else ""
