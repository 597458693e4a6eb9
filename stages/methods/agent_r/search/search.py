"""The search: from a task to a tree of episodes, the model asked once for each node that is expanded. Source: Agent-R 1.2 and 1.9."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engines.base import Completion, Message
from pipeline.errors import EngineError
from pipeline.ids import unit_interval
from pipeline.runner.llm import LLM
from stages.methods.agent_r.search.game import Game, Reached
from stages.methods.agent_r.search.tree import CUT_OFF, DEPTH, DONE, REFUSED, REPEAT, Node, Tree
from stages.methods.agent_r.search.turns import cut_off, normalised, parse_turn

STEP = "agent_r/rules"


@dataclass(slots=True, frozen=True)
class SearchSettings:
    """The paper's sizes are the defaults of the method's options."""

    width: int
    simulations: int
    depth: int
    c: float
    merge_states: bool
    seed: int


async def search(llm: LLM, game: Game, opening: Sequence[Message], settings: SearchSettings) -> Tree:
    """Return the tree of one task. `opening` is the conversation before the first turn: rules and first observation.

    Everything is a function of the completions and the seed: a killed search that is begun again asks the same requests in the same
    order, and those that were finished come from the log. Raises EngineError when the opening itself is refused. If no first turn is
    whole, the root has an `end` and no children.
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


def conversation(opening: Sequence[Message], path: Sequence[Node]) -> list[Message]:
    """Return the whole conversation up to a node. Nothing is ever cut out of it: what does not fit ends the line (F14)."""
    turns = [
        ({"role": "assistant", "content": n.response}, {"role": "user", "content": n.observation})
        for n in path
    ]
    return [*opening, *(message for turn in turns for message in turn)]


async def _expand(
    tree: Tree, node: Node, llm: LLM, game: Game, opening: Sequence[Message], settings: SearchSettings
) -> None:
    """Ask for `width` turns in one request, and do each action that differs."""
    try:
        sampled = await llm.chat(conversation(opening, tree.path(node)), step=STEP, n=settings.width)
    except EngineError as e:
        if not e.refused or node is tree.root:
            raise
        tree.end(node, REFUSED)  # as a rule the conversation has become too long for the model
        return
    turns = _different(sampled)
    if not turns:
        tree.end(node, CUT_OFF)
        return
    reached = await asyncio.to_thread(game.branch, node.id, [action for _, action in turns], len(tree.nodes))
    made: list[Node] = []
    for turn, found in zip(turns, reached, strict=True):
        made.append(_node(tree, node, turn, found, settings, made))
    tree.grow(node, made)


def _different(sampled: Sequence[Completion]) -> list[tuple[str, str]]:
    """Return (turn, action) of the samples that are whole, the first of those with the same action."""
    first: dict[str, tuple[str, str]] = {}
    for completion in sampled:
        if cut_off(completion.text, completion.finish_reason):
            continue
        turn, action = parse_turn(completion.text)
        first.setdefault(normalised(action), (turn, action))
    return list(first.values())


def _node(
    tree: Tree,
    parent: Node,
    turn: tuple[str, str],
    found: Reached,
    settings: SearchSettings,
    siblings: Sequence[Node],
) -> Node:
    step = found.step
    end = DONE if step.done else DEPTH if parent.depth + 1 >= settings.depth else ""
    if not end and settings.merge_states and _stands_elsewhere(tree, parent, found.state, siblings):
        end = REPEAT
    return Node(
        0,
        None,
        0,
        *turn,
        step.observation,
        step.reward,
        bool(step.info.get("executed", True)),
        found.state,
        end,
    )


def _stands_elsewhere(tree: Tree, parent: Node, state: str, siblings: Sequence[Node]) -> bool:
    """Tell whether a state is searched on from another node already, with as many actions left; `siblings` are not in the tree yet.

    The state of an ancestor is no repeat: an action that changed nothing is an error to learn from.
    """
    own = {tree.nodes[i].state for i in tree.ancestors(parent)}
    known = (*siblings, *(n for n in tree.nodes if n.depth <= parent.depth + 1))
    return state not in own and any(n.state == state and n.end != REPEAT for n in known)
