"""The search on a tiny game, with players that answer by a hash.

One tree for one seed, resumable, without any fault of the released code.
"""

import asyncio
from typing import Any

import orjson
import pytest

from pipeline import prompts
from pipeline.engines.base import Completion, Request
from pipeline.errors import DataError, EngineError
from stages.environments import Move
from stages.environments.actions import one_line, unlabel
from stages.environments.base import EnvTask
from stages.methods.agent_r.search import (
    CUT_OFF,
    DEPTH,
    REFUSED,
    REPEAT,
    Game,
    Games,
    SearchSettings,
    Tree,
    search,
)
from stages.methods.agent_r.search.turns import normalize_action, whole_turn
from tests.stages.methods.agent_r.search.counter import Coder, Counter, Replayed, Wild
from tests.stages.methods.agent_r.search.player import completion, llm, player

TASK = EnvTask("train-4", "train", {"target": 7, "name": "train4"})
OPENING = prompts.render("agent_r/rules", rules="Play.", observation="The number is 0.")


def settings(**changes: Any) -> SearchSettings:
    return SearchSettings(
        **{"width": 4, "simulations": 8, "depth": 6, "c": 0.25, "merge_states": False, "seed": 0, **changes}
    )


def grown(send: Any, environment: Any = None, **changes: Any) -> tuple[Tree, Game]:
    game = Game(environment or Counter(), TASK)
    return asyncio.run(search(llm(send), game, OPENING, settings(**changes))), game


def test_the_same_seed_gives_the_same_tree_byte_for_byte() -> None:
    first, again, other = (orjson.dumps(grown(player(), seed=s)[0].to_json()) for s in (0, 0, 1))
    assert first == again != other


def test_a_killed_search_repeats_no_finished_request() -> None:
    """The log answers what was finished; the tree that comes out is that of an undisturbed search."""
    whole: list[Request] = []
    undisturbed = grown(player(whole))[0]
    for k in (1, 7, len(whole) - 1):
        log: dict[str, list[Completion]] = {}
        before: list[Request] = []
        after: list[Request] = []
        with pytest.raises(KeyboardInterrupt):
            grown(player(before, die_after=k, log=log))
        resumed = grown(player(after, log=log))[0]
        assert orjson.dumps(resumed.to_json()) == orjson.dumps(undisturbed.to_json())
        assert len(before) == k and len(after) == len(whole) - k
        assert not {r.key("m") for r in before} & {r.key("m") for r in after}


def test_every_request_has_a_key_of_its_own_and_asks_for_all_samples_of_a_node() -> None:
    sent: list[Request] = []
    tree, _ = grown(player(sent))
    assert len({r.key("m") for r in sent}) == len(sent) == sum(bool(n.children) for n in tree.nodes)
    assert all(r.n == 4 and r.row == "task-1" for r in sent)


def test_one_step_for_each_child_with_snapshots_and_the_same_tree_without() -> None:
    tree, game = grown(player(), quick := Counter())
    children = len(tree.nodes) - 1
    assert game.steps == children and quick.restored < children and quick.resets == 1
    replayed, other = grown(player(), slow := Replayed())
    assert replayed.to_json() == tree.to_json()
    assert other.steps == children and slow.restored == other.restored < children, (
        "at most one replay for each node, and none for the first"
    )
    assert game.replayed == 0 < other.replayed, "what going back costs is counted"


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_fault_17_no_path_is_longer_than_the_depth(depth: int) -> None:
    tree, _ = grown(player(moves=("fly", "swim", "sing")), depth=depth, simulations=3)
    assert max(n.depth for n in tree.nodes) == depth
    assert all((n.end == DEPTH) == (n.depth == depth) for n in tree.nodes)
    assert tree.root.visits == len(tree.leaves())


def test_fault_13_siblings_have_different_actions_whatever_they_say() -> None:
    tree, _ = grown(player(moves=("add 1", "Add  1.", "ADD 1")), simulations=2)
    assert all(len(n.children) <= 1 for n in tree.nodes)
    tree, _ = grown(player())
    for node in tree.nodes:
        actions = [normalize_action(tree.nodes[i].action) for i in node.children]
        assert len(set(actions)) == len(actions)


def test_fault_13_a_state_is_searched_once_but_a_step_that_changed_nothing_is_kept() -> None:
    tree, _ = grown(player(), merge_states=True, simulations=30)
    repeats = [n for n in tree.nodes if n.end == REPEAT]
    assert repeats and not any(n.children or n.visits for n in repeats)
    expanded = [(n.state, n.depth) for n in tree.nodes if n.children]
    idle = [
        n
        for n in tree.nodes
        if n.parent is not None and n.state == tree.nodes[n.parent].state and not n.terminal
    ]
    assert idle and all(n.end != REPEAT for n in idle)
    for node in tree.nodes:  # what was expanded twice is a state that an ancestor had already
        twins = [
            n for n in tree.nodes[: node.id] if n.children and n.state == node.state and n.depth <= node.depth
        ]
        own = {tree.nodes[i].state for i in tree.ancestors(node)[:-1]}
        assert not (node.children and twins) or node.state in own, expanded
    assert tree.root.visits == len(tree.leaves())


def test_fault_13_siblings_that_lead_to_one_state_are_searched_on_once() -> None:
    async def send(request: Request) -> list[Completion]:
        first = len(request.messages) == len(OPENING)
        return [completion(f"Action: {move}") for move in (("add 2",) if first else ("add 2", "double"))]

    tree, _ = grown(send, simulations=1, depth=3, merge_states=True)
    both = [n for n in tree.nodes if n.depth == 2]
    assert [(n.action, n.observation, n.end) for n in both] == [
        ("add 2", "The number is 4.", ""),
        ("double", "The number is 4.", REPEAT),
    ]


def test_fault_14_the_conversation_is_whole_and_in_order() -> None:
    sent: list[Request] = []
    tree, _ = grown(player(sent))
    ways = [[(n.response, n.observation) for n in tree.path(node)] for node in tree.nodes]
    for request in sent:
        turns = request.messages[len(OPENING) :]
        assert request.messages[: len(OPENING)] == OPENING
        assert [(a["content"], b["content"]) for a, b in zip(turns[::2], turns[1::2], strict=True)] in ways


def test_a_conversation_that_the_engine_refuses_ends_there() -> None:
    play = player()

    async def send(request: Request) -> list[Completion]:
        if len(request.messages) > len(OPENING) + 4:
            raise EngineError("too long")
        return await play(request)

    tree, _ = grown(send)
    refused = [n for n in tree.nodes if n.end == REFUSED]
    assert refused and all(n.depth == 3 for n in refused) and tree.root.visits == len(tree.leaves())

    async def never(request: Request) -> list[Completion]:
        raise EngineError("too long")

    with pytest.raises(EngineError):
        grown(never)


def test_a_turn_that_was_cut_off_is_neither_done_nor_learnt() -> None:
    game = Game(Counter(), TASK)
    assert not whole_turn(game, completion("Thought: the goal is", "length"))
    assert not whole_turn(game, completion("Action: add 1", "max_tokens"))
    assert not whole_turn(game, completion("<think>Action: add 1\nSo", "length"))
    assert whole_turn(game, completion("Action: add 1", "stop"))
    assert whole_turn(game, completion("Action: add 1\nObservation: The", "length")), "its action is whole"

    async def send(request: Request) -> list[Completion]:
        deep = len(request.messages) >= len(OPENING) + 4
        return [
            completion("Thought: I go. Action: add 1", "length"),
            completion("Thought: I g", "length"),
            completion("Action: add 2", "length" if deep else "stop"),
        ]

    tree, _ = grown(send, simulations=2)
    assert [n.action for n in tree.nodes[1:]] == ["add 2", "add 2"]
    assert (
        [n.end for n in tree.nodes] == ["", "", CUT_OFF]
        and tree.root.visits == len(tree.leaves()) == 1
        and tree.root.closed
    )

    async def never(request: Request) -> list[Completion]:
        return [completion("Thought: I g", "length")]

    assert [n.end for n in grown(never)[0].nodes] == [CUT_OFF]


def test_fault_11_rewards_outside_0_and_1_are_refused() -> None:
    with pytest.raises(DataError, match="within"):
        grown(player(moves=("add 2", "double")), Wild())


def test_fault_19_the_first_action_is_done_and_what_follows_it_is_not_in_the_turn() -> None:
    wordy = "Thought: go.\nAction: add 1\nObservation: the number is 1\nAction: end\nThought: done"
    assert one_line(wordy) == ("Thought: go.\nAction: add 1", "add 1")
    assert one_line("Action 1: add 2, then more") == ("Action 1: add 2, then more", "add 2, then more")
    assert one_line("I look.\nObservation: the door is open.\nAction: go north") == ("I look.", ""), (
        "F19: it made the door up, and what it would do then"
    )
    assert one_line("I would add 2") == ("I would add 2", "")
    told = "Thought: My next action: get wood first.\nAction: get 2 wood"
    assert one_line(told) == (told, "get 2 wood"), "a thought may speak of an action"
    inline = "Thought: go. Action: add 1\nObservation: the number is 1\nAction: end"
    assert one_line(inline) == ("Thought: go. Action: add 1", "add 1")
    assert one_line("Thought: go. Action: add 1\n\nThought: on.\nAction: end")[1] == "add 1"

    async def send(request: Request) -> list[Completion]:
        return [completion(wordy)] * request.n

    tree, _ = grown(send, simulations=1)
    assert tree.nodes[1].action == "add 1" and "end" not in tree.nodes[1].response


def test_fault_16_actions_are_kept_as_they_are_commas_and_all() -> None:
    strange = 'add 1, add 2 ("x", y)'
    tree, game = grown(player(moves=(strange, "add 1")), Replayed())
    assert strange in {n.action for n in tree.nodes} and game.steps


def test_environments_are_used_again_and_limited() -> None:
    counter = "tests.stages.methods.agent_r.search.counter:Counter"
    entry = {
        "environment": counter,
        "options": {},
        "id": "train-1",
        "split": "train",
        "spec": {"target": 4, "name": "x"},
        "tags": [],
    }
    games, at_once, most = Games(most=2), 0, 0
    made: set[int] = set()

    async def one() -> None:
        nonlocal at_once, most
        async with games.play(entry) as game:
            at_once += 1
            most = max(most, at_once)
            made.add(id(game._environment))
            await asyncio.sleep(0.01)
            at_once -= 1

    async def many() -> None:
        await asyncio.gather(*(one() for _ in range(6)))

    asyncio.run(many())
    assert most == 2 and len(made) == 2


def test_a_quoted_action_is_none() -> None:
    """A reflection that quotes the judge is learnt with the action that was played."""
    said = f"Thought: {unlabel('Action: add 3 was too much, and action 2: add 1 too few.')}\nAction: reflect"
    assert one_line(said) == (said, "reflect")


def test_an_environment_reads_actions_of_several_lines_its_own_way() -> None:
    turn = "Thought: both.\nAction:\n```\nadd 1\ndouble\n```"

    async def send(request: Request) -> list[Completion]:
        return [completion(f"{turn}\nObservation: done")]

    tree, game = grown(send, Coder(), simulations=1, depth=2)
    assert (tree.nodes[1].action, tree.nodes[1].response) == ("add 1\ndouble", turn)
    assert tree.nodes[1].observation == "The number is 2."
    assert game.parse(game.bare_turn("add 1\nadd 2")).action == "add 1\nadd 2"
    assert normalize_action("if X:\n  y \n") == "if X:\n  y" != normalize_action("if x:\n y")


def test_a_turn_that_is_not_what_the_model_wrote_is_refused() -> None:
    class Rewriting(Counter):
        def parse(self, text: str) -> Move:
            return Move("Action: add 1", "add 1")

    with pytest.raises(DataError, match="no beginning of the reply"):
        grown(player(), Rewriting())


def test_thoughts_in_tags_are_neither_played_nor_remembered() -> None:
    sent: list[Request] = []

    async def send(request: Request) -> list[Completion]:
        sent.append(request)
        return [
            completion("<think>\nAction: end\n</think>\n\nThought: go.\n**Action:** add 1"),
            completion("I could say\nAction: end\nor not.\n</think>\nAction: add 2"),
            completion("<think>Action: end\nBut", "length"),
        ]

    tree, _ = grown(send, simulations=1, depth=2)
    assert [n.action for n in tree.nodes[1:3]] == ["add 1", "add 2"] and len(tree.nodes) == 5
    assert tree.nodes[1].response == "Thought: go.\n**Action:** add 1"
    assert all("think" not in m["content"] for request in sent for m in request.messages)
