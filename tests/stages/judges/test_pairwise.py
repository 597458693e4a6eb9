"""The pairwise judge: both orders are asked, and only preferences that agree count."""

import random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.base import Request
from tests.stages.judges.asked import Judged, answer, better, recipe_with, shown_texts

PAIRWISE = {"kind": "pairwise_judge"}


def longer(request: Request) -> str:
    a, b = (len(text) for text in shown_texts(request))
    return better("tie" if a == b else "A" if a > b else "B")


def first(request: Request) -> str:
    return better("A")


def test_each_pair_is_asked_in_both_orders_and_the_best_answer_wins() -> None:
    rows = [answer("q", "w " * n, i) for i, n in enumerate((2, 8, 5))]
    judged = Judged(recipe_with(PAIRWISE), [*rows, answer("lonely", "w")], longer)
    assert len(judged.requests) == 6
    shown = {tuple(len(text.split()) for text in shown_texts(r)) for r in judged.requests}
    assert shown == {(2, 8), (8, 2), (2, 5), (5, 2), (8, 5), (5, 8)}
    assert {i: r.payload["verdict"]["score"] for i, r in judged.kept.items()} == {"q-1": 1.0, "q-2": 0.5}
    assert judged.reasons == {"q-0": "low_score", "lonely-0": "no_rival"}
    assert all("rivals" not in row.payload for row in judged.kept.values())


def test_against_the_first() -> None:
    rows = [answer("q", "w " * n, i) for i, n in enumerate((4, 8, 2))]
    judged = Judged(recipe_with({**PAIRWISE, "against": "first"}), rows, longer)
    assert len(judged.requests) == 4 and list(judged.kept) == ["q-0", "q-1"]
    assert judged.kept["q-0"].payload["verdict"]["score"] == 0.5


def test_a_judge_that_goes_by_the_order_decides_nothing_and_is_said_to() -> None:
    rows = [answer(f"q{q}", f"text {i}", i) for q in range(10) for i in range(3)]
    judged = Judged(recipe_with(PAIRWISE), rows, first)
    assert set(judged.reasons.values()) == {"no_consistent_preference"} and not judged.kept
    facts = judged.summary
    order = facts["verifiers"]["pairwise_judge"]["order"]
    assert order["comparisons"] == 30 and order["consistent"]["mean"] == 0 and order["first_shown"] == 1
    assert any("contradicts itself" in w for w in facts["warnings"])
    assert any("shown first" in w for w in facts["warnings"]) and "Warning: " in facts["note"]


def test_equal_texts_are_a_tie_that_nobody_is_asked_about() -> None:
    judged = Judged(recipe_with(PAIRWISE), [answer("q", "same", i) for i in range(2)], first)
    assert not judged.requests and {r.payload["verdict"]["score"] for r in judged.kept.values()} == {0.5}


def test_replies_that_are_no_preference_are_unreadable() -> None:
    rows = [answer("q", f"text {i}", i) for i in range(2)]
    judged = Judged(recipe_with(PAIRWISE), rows, lambda _: "A is better")
    assert set(judged.reasons.values()) == {"unreadable_judgement"}
    assert judged.summary["verifiers"]["pairwise_judge"]["unreadable_share"] == 1


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=5),
    st.sampled_from(["all", "first"]),
    st.floats(0, 1),
    st.integers(0, 2**20),
)
def test_scores_follow_from_the_consistent_preferences_alone(
    lengths: list[int], against: str, fickle: float, seed: int
) -> None:
    """Whatever the order in which rows come, and whichever pairs the judge contradicts itself about."""
    rows = [answer("q", f"{'w ' * n}{i}", i) for i, n in enumerate(lengths)]

    def says(request: Request) -> str:
        one, other = (text.split() for text in shown_texts(request))
        pair = sorted((int(one[-1]), int(other[-1])))
        if random.Random(f"{seed}{pair}").random() < fickle:
            return better("A")
        return better("tie" if len(one) == len(other) else "A" if len(one) > len(other) else "B")

    verifier = {**PAIRWISE, "against": against, "threshold": None}
    shuffled = random.Random(seed).sample(rows, len(rows))
    judged, again = Judged(recipe_with(verifier), rows, says), Judged(recipe_with(verifier), shuffled, says)
    assert judged.reasons == again.reasons
    for i, row in judged.kept.items():
        assert row.payload["verdict"] == again.kept[i].payload["verdict"]
    pairs = [(i, j) for j in range(len(rows)) for i in range(j) if against == "all" or i == 0]
    assert len(judged.requests) == 2 * len(pairs)
    for i in range(len(rows)):
        points = []
        for pair in pairs:
            if i in pair and random.Random(f"{seed}{sorted(pair)}").random() >= fickle:
                mine, other = lengths[i], lengths[pair[0] + pair[1] - i]
                points.append(1.0 if mine > other else 0.5 if mine == other else 0.0)
        if points:
            assert judged.kept[f"q-{i}"].payload["verdict"]["score"] == sum(points) / len(points)
        else:
            assert judged.reasons[f"q-{i}"] == "no_consistent_preference"
