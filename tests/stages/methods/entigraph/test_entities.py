"""Entities and the sets of them: what a reply may be, which entities are used, and the plan's invariants."""

import json
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.methods.entigraph.entities import (
    Extracted,
    distinct,
    most_frequent,
    occurrences,
    plan,
    read,
    schema,
)


@given(st.integers(0, 25), st.none() | st.integers(0, 40), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_a_plan_has_every_pair_once_and_no_more_triples_than_allowed(
    n: int, max_pairs: int | None, max_triples: int, seed: int
) -> None:
    made = plan(n, max_pairs, max_triples, seed)
    pairs, triples = [s for s in made if len(s) == 2], [s for s in made if len(s) == 3]
    assert made == [*pairs, *triples] and len(set(made)) == len(made)
    assert all(list(s) == sorted(set(s)) and s[0] >= 0 and s[-1] < n for s in made)
    assert len(pairs) == min(n * (n - 1) // 2, max_pairs if max_pairs is not None else n * n)
    assert len(triples) == min(max_triples, n * (n - 1) * (n - 2) // 6)
    assert made == plan(n, max_pairs, max_triples, seed)


def test_pairs_are_in_list_order_and_triples_in_a_shuffle_that_the_seed_decides() -> None:
    assert plan(4, None, 0, 0) == list(combinations(range(4), 2))
    one, other = (plan(12, None, 50, seed)[66:] for seed in (42, 43))
    assert one != other and one != sorted(one) and len(one) == 50
    assert plan(12, None, 50, 42)[:66] == list(combinations(range(12), 2))


def test_fault_5_a_document_of_forty_entities_is_not_swamped_by_its_9880_triples() -> None:
    assert len(plan(40, None, 10**6, 0)) == 780 + 9880
    assert len(plan(40, None, 100, 0)) == 880


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "no JSON",
        '{"summary": "s"}',  # fault 2: these passed, or crashed later
        '{"summary": "s", "entities": {"a": 1}}',
        '{"summary": "s", "entities": []}',
        '{"summary": "s", "entities": ["a", 3]}',
        '{"summary": "s", "entities": "a, b"}',
        '{"entities": ["a", "b"]}',
        '{"summary": "", "entities": ["a", "b"]}',
        '{"summary": "s", "entities": ["a", "b"], "more": 1}',
        '{"summary": "s", "entities": ["a", "b"',
    ],
)
def test_fault_2_what_is_not_as_asked_for_is_told(reply: str) -> None:
    problem = read(reply)
    assert isinstance(problem, str) and problem


def test_a_reply_as_asked_for_is_read() -> None:
    assert read(json.dumps({"summary": "s", "entities": ["Ada", "the engine"]})) == Extracted(
        summary="s", entities=["Ada", "the engine"]
    )


def test_guided_decoding_is_told_the_same_form() -> None:
    asked = schema(30)
    assert (
        asked["properties"].keys() == Extracted.model_fields.keys() == set(asked["required"])
        and not asked["additionalProperties"]
    )
    assert (
        asked["properties"]["entities"]["maxItems"] == 30
        and "maxItems" not in schema(None)["properties"]["entities"]
    )


def test_case_articles_and_plurals_do_not_make_two_entities_of_one() -> None:
    assert distinct(
        ["Mines", "the mine", "MINE", "Glass", "glasses", "bus", "  ", "Ada  Lovelace", "ada lovelace"]
    ) == ["Mines", "Glass", "glasses", "bus", "Ada Lovelace"]


@pytest.mark.parametrize(
    ("entity", "count"),
    [
        ("gold", 2),
        ("Gold Coast", 1),
        ("the Gold Coast", 1),
        ("golds", 2),
        ("old", 0),
        ("coffee", 1),
        ("Coffees", 1),
        ("silver", 0),
        ("...", 0),
        ("Mount Éla", 1),
    ],
)
def test_an_entity_is_grounded_when_the_document_names_it(entity: str, count: int) -> None:
    assert occurrences(entity, "The Gold\nCoast exports gold and coffee. Mount Éla is high.") == count


def test_the_most_frequent_entities_stay_in_their_order() -> None:
    document = "b b b c c a d d"
    assert most_frequent(["a", "c", "b", "d"], document, 2) == ["c", "b"]
    assert most_frequent(["a", "c"], document, None) == ["a", "c"]
