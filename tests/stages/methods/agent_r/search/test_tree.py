"""The tree by itself: UCB by hand, and what holds for every tree."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.methods.agent_r.search.tree import DEPTH, DONE, REPEAT, Node, Tree, ucb


def child(reward: float = 0.0, end: str = "", state: str = "s") -> Node:
    return Node(0, None, 0, "r", "a", "o", reward, True, state, end)


def test_ucb_by_hand_on_three_nodes() -> None:
    """Root with children 1 (its leaf got 1) and 2 (its leaf got 0.5); 1 is visited twice, 2 once."""
    tree = Tree("o", "s")
    tree.grow(tree.root, [child(), child()])
    one, two = tree.nodes[1], tree.nodes[2]
    assert ucb(0, 0, 0, 0.25) == math.inf
    tree.grow(one, [child(1.0, DONE), child(0.0, DEPTH), child()])
    tree.grow(two, [child(0.5, DONE), child()])
    assert (tree.root.visits, tree.root.value, one.visits, one.value, two.visits, two.value) == (
        3,
        1.5,
        2,
        1.0,
        1,
        0.5,
    )
    assert ucb(one.value, one.visits, 3, 0.25) == pytest.approx(
        0.5 + 0.25 * 0.741152, abs=1e-5
    )  # sqrt(ln 3 / 2)
    assert ucb(two.value, two.visits, 3, 0.25) == pytest.approx(0.5 + 0.25 * 1.048147, abs=1e-5)  # sqrt(ln 3)
    assert tree.descend(tree.root, 0.25, float) is two, "the less visited of two equal means"
    assert tree.descend(tree.root, 0.0, lambda i: -i) is one and tree.descend(tree.root, 0.0, float) is two, (
        "ties go by the hash"
    )


def test_terminal_children_are_never_chosen_and_an_exhausted_parent_closes() -> None:
    tree = Tree("o", "s")
    tree.grow(tree.root, [child(1.0, DONE), child()])
    assert tree.descend(tree.root, 0.25, float) is tree.nodes[2]
    tree.grow(tree.nodes[2], [child(0.0, DONE), child(0.3, REPEAT)])
    assert tree.nodes[2].closed and tree.root.closed and tree.descend(tree.root, 0.25, float) is None
    assert tree.root.visits == 2 and tree.root.value == 1.0, "a repeat is no leaf"


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["", DONE, DEPTH, REPEAT]), st.floats(0, 1)), min_size=1, max_size=4
        ),
        max_size=30,
    )
)
def test_the_root_is_visited_once_for_each_terminal_leaf(expansions: list[list[tuple[str, float]]]) -> None:
    tree = Tree("o", "s")
    for made in expansions:
        node = tree.root
        while node is not None and node.children:
            node = tree.descend(node, 0.25, float)
        if node is None:
            break
        tree.grow(node, [child(reward, end) for end, reward in made])
    for node in tree.nodes:
        below = [leaf for leaf in tree.leaves() if node.id in tree.ancestors(leaf)]
        assert node.visits == len(below) and node.value == pytest.approx(sum(leaf.reward for leaf in below))
    assert tree.root.visits == len(tree.leaves())
    assert Tree.from_json(tree.to_json()).nodes == tree.nodes
