"""The search tree as judge: by the leaves below a step, on trees written by hand."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stages.methods.agent_r.search import Node, Tree
from stages.methods.agent_r.search.tree import DEPTH, DONE, REPEAT
from stages.methods.agent_r.trajectories import PairRules, good_leaves, pairs
from stages.methods.agent_r.tree_judge import TreeJudge
from tests.stages.methods.agent_r.scripted import method, model, task_rows, through

RULES = PairRules(1.0, 0.2, 2, 100, 0)


def node(action: str, state: str = "", reward: float = 0.0, end: str = "", executed: bool = True) -> Node:
    return Node(0, None, 0, f"Action: {action}", action, "", reward, executed, state or action, end)


def grow(tree: Tree, parent: int, *made: Node) -> list[int]:
    tree.grow(tree.nodes[parent], made)
    return [n.id for n in made]


def judged(tree: Tree, good: int, bad: int, alpha: float = 1.0) -> tuple[int | None, list[str]]:
    """Return the first bad step of the path to the leaf `bad`, and the labels of the steps judged."""
    ways = [tree.path(tree.nodes[i]) for i in (good, bad)]
    prefix = sum(a.id == b.id for a, b in zip(*ways, strict=False))
    judge = TreeJudge(tree, alpha, 0.2)
    first, judgements = asyncio.run(judge.first_bad(ways[1], prefix, ways[0][prefix:]))
    return first, [j["judgement"] for j in judgements]


def test_the_first_step_below_which_no_leaf_is_good_is_bad() -> None:
    tree = Tree("", "root")
    right, wrong = grow(tree, 0, node("right"), node("wrong"))
    [good] = grow(tree, right, node("goal", reward=1.0, end=DONE))
    [on] = grow(tree, wrong, node("on"))
    [bad] = grow(tree, on, node("lost", end=DONE))
    assert judged(tree, good, bad) == (1, ["bad"])


def test_a_step_below_which_another_way_was_good_is_not_bad() -> None:
    tree = Tree("", "root")
    right, other = grow(tree, 0, node("right"), node("other"))
    [good] = grow(tree, right, node("goal", reward=1.0, end=DONE))
    saved, wrong = grow(tree, other, node("saved", reward=1.0, end=DONE), node("wrong"))
    [bad] = grow(tree, wrong, node("lost", end=DONE))
    assert judged(tree, good, bad) == (2, ["good", "bad"]) and saved


def test_a_state_that_the_search_merged_leads_where_its_twin_does() -> None:
    """Two orders of the same two actions: the second is not searched on, but is as good as the first."""
    tree = Tree("", "root")
    a, b = grow(tree, 0, node("take a"), node("take b"))
    [both] = grow(tree, a, node("take b", "both"))
    merged, wrong = grow(tree, b, node("take a", "both", end=REPEAT), node("break"))
    [good] = grow(tree, both, node("goal", reward=1.0, end=DONE))
    [bad] = grow(tree, wrong, node("lost", end=DONE))
    assert judged(tree, good, bad) == (2, ["good", "bad"]) and merged


def test_a_step_that_changes_nothing_or_goes_back_is_bad() -> None:
    tree = Tree("", "root")
    right, idle = grow(tree, 0, node("right"), node("wait", "root"))
    [good] = grow(tree, right, node("goal", reward=1.0, end=DONE))
    [away] = grow(tree, idle, node("away"))
    [bad] = grow(tree, away, node("back", "root", end=DONE))
    assert judged(tree, good, bad) == (1, ["bad"])
    grow(tree, idle, node("right", "right", end=REPEAT))
    assert judged(tree, good, bad) == (1, ["bad"]), "that way was open before"
    grow(tree, idle, node("leap", "goal", reward=1.0, end=DONE))
    assert judged(tree, good, bad) == (2, ["good", "bad"]), "here it was saved"


def test_an_action_that_the_good_episode_takes_later_is_only_in_another_order_once() -> None:
    tree = Tree("", "root")
    first, other = grow(tree, 0, node("take a"), node("take b"))
    [second] = grow(tree, first, node("Take b."))
    [good] = grow(tree, second, node("goal", reward=1.0, end=DONE))
    [again] = grow(tree, other, node("take b", "b2"))
    [bad] = grow(tree, again, node("lost", end=DONE))
    assert judged(tree, good, bad) == (2, ["uncertain", "bad"])
    tree.nodes[other].executed = False
    assert judged(tree, good, bad) == (1, ["bad"]), "it did not happen"


def test_a_leaf_is_good_enough_if_it_could_be_the_bad_ones_partner() -> None:
    """With alpha 0.5 a leaf of 0.6 is good, but not better than a bad one of 0.5 by more than beta."""
    tree = Tree("", "root")
    right, wrong = grow(tree, 0, node("right"), node("wrong"))
    [good] = grow(tree, right, node("goal", reward=1.0, end=DONE))
    near, bad = grow(tree, wrong, node("near", reward=0.6, end=DONE), node("far", reward=0.5, end=DONE))
    assert judged(tree, good, bad, alpha=0.5) == (1, ["bad"])
    tree.nodes[bad].reward = 0.2
    assert judged(tree, good, bad, alpha=0.5) == (2, ["good", "bad"]) and near


def test_no_step_is_bad_without_merging_before_the_deepest_common_state() -> None:
    """By pairs_per_bad, a good episode that parts earlier is paired too: the steps both others share are
    good.
    """
    tree = Tree("", "root")
    early, shared = grow(tree, 0, node("early"), node("shared"))
    [one] = grow(tree, early, node("goal", "g1", reward=1.0, end=DONE))
    right, wrong = grow(tree, shared, node("right"), node("wrong"))
    [two] = grow(tree, right, node("goal", "g2", reward=1.0, end=DONE))
    [bad] = grow(tree, wrong, node("lost", end=DONE))
    assert {(p.good.id, p.prefix) for p in pairs(tree, RULES, "r")} == {(two, 1), (one, 0)}
    assert judged(tree, two, bad) == (2, ["bad"]) and judged(tree, one, bad) == (2, ["good", "bad"])


@st.composite
def trees(draw: Any) -> Tree:
    """Trees whose states all differ, with leaves of reward 0 and 1."""
    tree, open_ = Tree("", "root"), [0]
    for _ in range(draw(st.integers(1, 8))):
        parent = open_.pop(draw(st.integers(0, len(open_) - 1)))
        made = []
        for i in range(draw(st.integers(1, 3))):
            end = draw(st.sampled_from(["", DONE]))
            name = f"{parent}.{i}"
            made.append(node(name, reward=float(draw(st.booleans())) if end else 0.0, end=end))
        for i, made_node in zip(grow(tree, parent, *made), made, strict=True):
            open_ += [] if made_node.end else [i]
        if not open_:
            break
    return tree


@given(trees())
def test_where_no_states_are_shared_the_value_below_tells(tree: Tree) -> None:
    """A step is good if and only if a reward was backed up through it."""
    for pair in pairs(tree, RULES, "r"):
        bad, good = tree.path(pair.bad), tree.path(pair.good)
        first, judgements = asyncio.run(
            TreeJudge(tree, 1.0, 0.2).first_bad(bad, pair.prefix, good[pair.prefix :])
        )
        expected = next((i for i, n in enumerate(bad, 1) if i > pair.prefix and n.value == 0), None)
        assert first == expected and first is not None
        assert [j["step"] for j in judgements] == list(range(pair.prefix + 1, first + 1))
    assert all(leaf.reward == 1.0 for leaf in good_leaves(tree, 1.0))


def test_in_the_method_it_asks_nothing_and_revisions_are_shorter_than_whole_episodes() -> None:
    m, sent = method(judge="tree", arm="revision_only"), []
    whole = method(arm="direct_revision")
    lengths = []
    for row in task_rows(m)[0]:
        found = through(m, row, model(sent=sent))
        others = {r.id: r.payload for r in through(whole, row, model())["critique"]}
        for record in found["critique"]:
            if record.payload["t_prime"]:
                end = found["generate"][0].payload["tree"][record.payload["leaves"][1]]["end"]
                assert record.payload["judge"] and (record.payload["first_bad"] or end == DEPTH)
                lengths.append((record.payload["t_prime"], others[record.id]["t_prime"] or 0))
    assert all(r.step != "agent_r/judge" for r in sent) and m.stages()["critique"].prompts == ()
    assert lengths and all(t <= all_ for t, all_ in lengths if all_) and any(t < all_ for t, all_ in lengths)
    assert "found by the search tree" in m.notes([])[1]
