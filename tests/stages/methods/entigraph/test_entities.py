"""Entities and the sets of them: what a reply may be, which entities are used, and the plan's invariants."""

# ruff: noqa: RUF001 - names in many scripts

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


@pytest.mark.parametrize(
    ("entity", "document", "count"),
    [
        ("北京", "我爱北京天安门，北京很大。", 2),
        ("水", "水和火", 1),
        ("上海", "我爱北京。", 0),
        ("iPhone手机", "买了iPhone手机的人", 1),
        ("エイダ・ラブレス", "エイダ・ラブレスは数学者である。", 1),
        ("東京", "東\n京は首都です。東京都", 2),
        ("ﾄｳｷｮｳ", "トウキョウに行く", 1),
        ("Ada", "Adaは数学者", 1),
        ("서울", "서울은 한국의 수도이고 서울에서 만난다.", 2),
        ("대한 민국", "대한민국은 크다", 1),
        ("กรุงเทพ", "ผมอยู่กรุงเทพมหานคร", 1),
        ("Москва", "Жители Москвы любят Москву. В Москве!", 3),
        ("Анна Каренина", "роман об Анне Карениной", 1),
        ("Лев Толстой", "у Льва Толстого", 1),
        ("Великая Отечественная война", "в Великой Отечественной войне", 1),
        ("Иван", "Иванович и Ивана", 1),
        ("Пётр", "Петр", 1),
        ("Warszawa", "w Warszawie i do Warszawy", 2),
        ("Budapest", "Budapesten, Budapestről", 2),
        ("Ankara", "Ankara'nın büyük", 1),
        ("Berlin", "Berlins Mitte", 1),
        ("Αθήνα", "της Αθήνας", 1),
        ("თბილისი", "თბილისში", 1),
        ("القاهرة", "ذهبت إلى القاهرة وبالقاهرة للقاهرة", 3),
        ("מצרים", "במצרים וממצרים", 2),
        ("भारत", "भारत की राजधानी", 1),
        ("சென்னை", "சென்னையில் வாழ்கிறேன்", 1),
        ("Rom", "Romantik ist schön", 0),
        ("Victoria", "the victorious army and the king of hearts", 0),
        ("Iran", "the Iranian king and the end of Iran", 1),
    ],
)
def test_names_with_particles_and_other_endings_are_found_too(entity: str, document: str, count: int) -> None:
    assert occurrences(entity, document) == count


@given(st.text(max_size=20), st.text(max_size=60))
def test_any_entity_in_any_document_is_counted(entity: str, document: str) -> None:
    assert occurrences(entity, document) >= 0


def test_the_most_frequent_entities_stay_in_their_order() -> None:
    document = "b b b c c a d d"
    assert most_frequent(["a", "c", "b", "d"], document, 2) == ["c", "b"]
    assert most_frequent(["a", "c"], document, None) == ["a", "c"]
