"""Pairs, the point of transition and the replay, on trees made by hand and on the counter game."""

import pytest

from stages.environments import REFLECT_REPLY, EnvTask
from stages.methods.agent_r.episodes import loops
from stages.methods.agent_r.search import DEPTH, DONE, Game, Node, Tree
from stages.methods.agent_r.trajectories import Pair, PairRules, Rejected, pairs, replay, transition
from tests.stages.methods.agent_r.search.counter import Counter


def child(reward: float = 0.0, end: str = "", action: str = "a") -> Node:
    return Node(0, None, 0, f"Action: {action}", action, "o", reward, True, "s", end)


def rules(**changes: float) -> PairRules:
    return PairRules(**{"alpha": 0.5, "beta": 0.2, "per_bad": 2, "per_task": 32, "seed": 0, **changes})


def forked() -> Tree:
    """0 -> 1, 2; 1 -> 3 (bad), 4; 4 -> 5 (good 1.0), 6 (good 0.6); 2 -> 7 (good 1.0), 8 (bad 0.5)."""
    tree = Tree("o", "s")
    tree.grow(tree.root, [child(), child()])
    tree.grow(tree.nodes[1], [child(0.0, DONE), child()])
    tree.grow(tree.nodes[4], [child(1.0, DONE), child(0.6, DEPTH)])
    tree.grow(tree.nodes[2], [child(1.0, DONE), child(0.5, DEPTH)])
    return tree


def ids(found: list[Pair]) -> list[tuple[int, int, int]]:
    return [(p.good.id, p.bad.id, p.prefix) for p in found]


def test_good_episodes_that_branch_off_latest_come_first_then_the_shortest() -> None:
    assert ids(pairs(forked(), rules(per_bad=9, alpha=0.6), "t"))[:3] in (
        [(5, 3, 1), (6, 3, 1), (7, 3, 0)],
        [(6, 3, 1), (5, 3, 1), (7, 3, 0)],
    )
    assert ids(pairs(forked(), rules(per_bad=9, alpha=0.7), "t")) == [
        (5, 3, 1),
        (7, 3, 0),
        (5, 6, 2),
        (7, 6, 0),
        (7, 8, 1),
        (5, 8, 0),
    ]


def test_fault_2_a_perfect_episode_is_good_when_alpha_is_1() -> None:
    assert {p.good.id for p in pairs(forked(), rules(alpha=1.0), "t")} == {5, 7}


def test_fault_1_and_the_gap_rewards_are_numbers_and_the_gap_is_strict() -> None:
    assert not [p for p in pairs(forked(), rules(beta=0.4), "t") if p.bad.id == 6]
    assert [p for p in pairs(forked(), rules(beta=0.39), "t") if p.bad.id == 6]


def test_fault_12_caps_hold_and_the_draw_is_seeded() -> None:
    every = pairs(forked(), rules(per_bad=9), "t")
    one = pairs(forked(), rules(per_bad=1), "t")
    assert len({p.bad.id for p in one}) == len(one) < len(every)
    two = [ids(pairs(forked(), rules(per_bad=9, per_task=2, seed=s), "t")) for s in range(8)]
    assert all(len(t) == 2 and set(t) <= set(ids(every)) for t in two) and len({tuple(t) for t in two}) > 1
    assert two[0] == ids(pairs(forked(), rules(per_bad=9, per_task=2), "t"))


def bad_way(length: int, end: str) -> list[Node]:
    return [child() for _ in range(length - 1)] + [child(0.0, end)]


@pytest.mark.parametrize(
    ("prefix", "length", "end", "first_bad", "t"),
    [
        (1, 5, DEPTH, 3, 3),  # the judge's step, included
        (1, 5, DEPTH, None, 5),  # nobody found one: all of it
        (1, 5, DONE, None, 4),  # F10: nothing follows the last step of an episode that is over
        (1, 5, DONE, 5, 4),
        (4, 5, DONE, None, None),  # F10, F7: and before it there is only what both have in common
        (4, 5, DEPTH, None, 5),
        (0, 1, DONE, 1, None),
    ],
)
def test_faults_7_and_10_where_the_episode_turns_round(
    prefix: int, length: int, end: str, first_bad: int | None, t: int | None
) -> None:
    assert transition(prefix, bad_way(length, end), first_bad) == t


def did(*actions: str, executed: bool = True) -> list[dict]:
    return [
        {
            "response": f"Thought: so.\nAction: {a}",
            "action": a,
            "observation": "from the tree",
            "executed": executed,
        }
        for a in actions
    ]


def game(target: int = 7) -> Game:
    return Game(Counter(), EnvTask("train-0", "train", {"target": target, "name": "t"}))


SORRY = "Thought: sorry.\nAction: reflect"


def test_fault_8_and_9_a_splice_has_what_was_really_observed_and_an_answered_reflection() -> None:
    found = replay(game(), did("add 1", "fly"), SORRY, did("double", "double", "add 2", "add 1"), 1.0)
    assert [m["content"] for m in found.messages] == [
        "Thought: so.\nAction: add 1",
        "The number is 1.",
        "Thought: so.\nAction: fly",
        "Nothing happens: 'fly' is no action.",
        SORRY,
        REFLECT_REPLY,
        "Thought: so.\nAction: double",
        "The number is 2.",
        "Thought: so.\nAction: double",
        "The number is 4.",
        "Thought: so.\nAction: add 2",
        "The number is 6.",
        "Thought: so.\nAction: add 1",
    ]
    assert found.learn == [
        False,
        False,
        False,
        False,
        True,
        False,
        True,
        False,
        True,
        False,
        True,
        False,
        True,
    ]
    assert found.reward == 1.0 and "from the tree" not in str(found.messages)


@pytest.mark.parametrize(
    ("before", "after", "alpha", "reason"),
    [
        (("double", "add 2", "add 2", "double"), ("add 1",), 1.0, "over_before_reflection"),
        (("add 1",), ("add 2", "fly", "double"), 1.0, "step_not_executed"),
        (
            ("add 2",),
            ("add 2", "double"),
            1.0,
            "reward_too_low",
        ),  # 8 of 7: the good way does not work from where the bad one led
        (("add 1",), ("add 2",), 0.5, "reward_too_low"),
    ],
)
def test_fault_8_what_does_not_work_from_there_is_rejected_with_the_reason(
    before: tuple, after: tuple, alpha: float, reason: str
) -> None:
    found = replay(game(), did(*before), SORRY, did(*after), alpha)
    assert isinstance(found, Rejected) and found.reason == reason and found.detail


def test_a_splice_that_reaches_the_goal_early_ends_there() -> None:
    found = replay(game(5), did("add 1"), SORRY, did("double", "double", "add 1", "add 2", "add 2"), 1.0)
    assert found.messages[-1]["content"].endswith("add 1") and found.reward == 1.0


def test_a_good_episode_is_learnt_whole() -> None:
    found = replay(game(2), [], "", [*did("fly", executed=False), *did("add 2")], 1.0)
    assert found.learn == [True, False, True] and found.reward == 1.0


def test_loops_by_hand() -> None:
    assert loops(["a", "a", "b", "a", "b", "a", "b"]) == [1, 3, 0, 0, 0, 0]
    assert loops(["x"] * 5) == [4, 2, 0, 0, 0, 0] and loops(["a", "A.", "b"])[0] == 1 and loops([]) == [0] * 6
