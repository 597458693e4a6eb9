"""EntiGraph's texts, row by row: keys, refusals, kills, filters and the judge.

Faults 1 to 3 of the released code (2.10).
"""

import asyncio
import json
import random
import re
from collections import Counter
from typing import Any

import pytest

from pipeline.engines.base import Completion, Request
from pipeline.errors import EngineDied, EngineError
from pipeline.rows import Dropped, Failed, Kept, Row
from stages.methods.entigraph.method import EntiGraph
from stages.methods.entigraph.texts import sections
from tests.stages.methods.entigraph.answers import writes
from tests.stages.methods.entigraph.scripted import DOCUMENT, NAMES, Model, generate, llm, recipe_of, through


def test_a_text_for_the_summary_each_pair_and_some_triples() -> None:
    model = Model()
    rows = generate(model, max_triples=4).rows
    assert Counter(r.payload["form"] for r in rows) == {"summary": 1, "pair": 10, "triple": 4}
    assert [tuple(r.payload["entities"]) for r in rows[1:11]] == [
        (a, b) for i, a in enumerate(NAMES) for b in NAMES[i + 1 :]
    ], "not Atlantis: it is not in the document"
    assert len({r.id for r in rows}) == len({r.payload["key"] for r in rows}) == 15 and all(
        r.parents == ["doc1"] for r in rows
    )
    assert model.steps() == {"entities": 1, "relation": 14}
    assert (
        model.asked[0].json_schema["properties"]["entities"]["maxItems"] == 30
        and model.asked[1].json_schema is None
    )
    kept, reasons = through(Kept(rows), model, max_triples=4)
    assert not reasons and {r.payload["question"] for r in kept} == {"The Weavers"}, (
        "the document is not carried on"
    )
    assert len({r.id for r in rows} & {r.id for r in generate(model, max_triples=4, round_=2).rows}) == 0, (
        "another round makes other rows"
    )


@pytest.mark.parametrize("done", [1, 2, 7, 14])
def test_fault_1_what_goes_on_after_a_kill_has_every_key_once_and_pays_for_nothing_twice(done: int) -> None:
    undisturbed = generate(Model(), max_triples=4).rows
    model = Model(fails=lambda request: EngineDied("killed") if len(model.asked) > done else None)
    with pytest.raises(EngineDied):
        generate(model, max_triples=4)
    assert len(model.log) == done
    model.fails, before = lambda request: None, len(model.asked)
    rows = generate(model, max_triples=4).rows
    assert [(r.id, r.payload) for r in rows] == [(r.id, r.payload) for r in undisturbed]
    assert len(model.asked) - before == 15 - done


def test_fault_2_entities_that_cannot_be_used_are_asked_for_again_but_not_for_ever() -> None:
    def bad(request: Request, index: int) -> str:
        return (
            '{"summary": "s", "entities": {"a": 1}}'
            if request.step.endswith("entities")
            else writes(request, index)
        )

    model = Model(bad)
    failed = generate(model, entity_attempts=4)
    assert (
        isinstance(failed, Failed)
        and failed.error == "unusable_entities"
        and '"a": 1' in failed.raw
        and "entities" in failed.detail
    )
    assert model.steps() == {"entities": 4} and len(model.log) == 4, "four samples, not one four times"
    second = Model(
        lambda request, index: bad(request, index) if request.sample_index == 0 else writes(request, index)
    )
    assert len(generate(second, max_triples=0).rows) == 11 and second.steps()["entities"] == 2
    cut = Model(lambda request, index: Completion('{"summary": "s", "ent', "length", 5, 9))
    assert "cut off after 9 tokens" in generate(cut).detail


def test_too_few_entities_are_a_dropped_document_with_the_reply() -> None:
    dropped = generate(
        Model(lambda request, index: '{"summary": "s", "entities": ["Ada", "Atlantis", "ADA"]}')
    )
    assert isinstance(dropped, Dropped) and dropped.reason == "too_few_entities" and "Atlantis" in dropped.raw
    hasty = Model(
        lambda request, index: (
            '{"summary": "s", "entities": ["Atlantis", "x"]}'
            if request.sample_index < 2 and request.step.endswith("entities")
            else writes(request, index)
        )
    )
    assert len(generate(hasty, max_triples=0).rows) == 11 and hasty.steps()["entities"] == 3, (
        "the document does not name them: asked for again"
    )
    slow = Model(
        lambda request, index: (
            json.dumps({"summary": f"s{request.sample_index}", "entities": [NAMES[request.sample_index % 5]]})
            if request.step.endswith("entities")
            else writes(request, index)
        )
    )
    together = generate(slow, max_triples=0, entity_attempts=9, enough_entities=4).rows
    assert slow.steps()["entities"] == 4 and together[0].payload["text"] == "s0" and len(together) == 1 + 6, (
        "one at a time, until there are enough"
    )
    assert len(generate(Model(), grounded=False, max_triples=0).rows) == 1 + 15, (
        "as published, Atlantis is one of them"
    )
    assert len(generate(Model(), max_entities=3, max_triples=9).rows) == 1 + 3 + 1


def test_names_with_bars_give_every_set_a_key_of_its_own() -> None:
    names = ["a1", "a1|b1", "c1", "b1|c1"]
    model = Model(
        lambda request, index: (
            json.dumps({"summary": "s", "entities": names})
            if request.step.endswith("entities")
            else "### x\ny"
        )
    )
    rows = generate(model, f"Bars\n\nThings: {', '.join(names)}.", max_triples=9).rows
    assert len({r.id for r in rows}) == len({r.payload["key"] for r in rows}) == 1 + 6 + 4


def test_fault_3_a_refused_relation_is_one_dropped_text_and_an_error_that_may_pass_is_no_end() -> None:
    model = Model(
        fails=lambda request: (
            EngineError("too long") if re.search(r"Ada; silver[.:]", str(request.messages)) else None
        )
    )
    rows = generate(model, max_triples=0).rows
    kept, reasons = through(Kept(rows), model)
    assert len(rows) == 11 and len(kept) == 10 and reasons == {"request_refused": 1}
    with pytest.raises(EngineError, match="busy"):
        generate(
            Model(
                fails=lambda request: (
                    EngineError("busy", retryable=True) if request.step.endswith("relation") else None
                )
            )
        )
    with pytest.raises(EngineError, match="every text of the document was refused, the first with: no"):
        generate(
            Model(fails=lambda request: EngineError("no") if request.step.endswith("relation") else None)
        )


def cut_short(request: Request, index: int) -> Any:
    made = writes(request, index)
    return (
        made
        if request.step.endswith("entities")
        else Completion(f"One sentence. {made} and", "length", 10, 300)
    )


def test_fault_3_a_truncated_text_is_not_kept_as_if_it_were_whole() -> None:
    rows, reasons = through(generate(Model(cut_short), max_triples=0), Model(), sections=False)
    assert reasons == {"truncated": 10} and len(rows) == 1
    rows, reasons = through(
        generate(Model(cut_short), max_triples=0, truncated="cut"), Model(), sections=False
    )
    assert not reasons and all(r.payload["text"].endswith(".") for r in rows)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("### a\nx\n\n### b\ny", 2),
        ("# Title\n\n## a\nx\n## b\ny", 2),  # a title alone is no section
        ("**a**\nx\n\n**b:**\ny", 2),
        ("1. **a**\nx\n2. **b**\ny", 2),
        ("a\n===\nx\n\nb\n---\ny", 2),
        ("x y\n\n### b\ny z", 2),  # begins without its heading
        ("Sure:\n\n### a\nx y\n### b\ny z", 2),
        ("### a\n### b\ny", 1),
        ("x\n\ny", 0),
        ("| a |\n| --- |\n\n### b\n**x** y", 2),
        ("", 0),
    ],
)
def test_sections_are_counted_whatever_their_headings_look_like(text: str, count: int) -> None:
    assert sections(text) == count


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no headings at all", "missing_sections"),
        ("### The Weavers in relation to Ada\nx\n### and\ny", "missing_sections"),
        (f"### a\nx\n### b\n{DOCUMENT}\n### c\nz", "copied"),
        ("### a\nx\n### b\ny\n### c\nz", ""),
        ("# The Weavers\n\n**a**\nx\n\n**b**\ny\n\n**a and b**\nz\n\n**More**\nv", ""),
        (" ", "empty_answer"),
        ("### a\nx\n### b\ny\n### c\n" + "and so on to the end of it all " * 9, "repetition"),
    ],
)
def test_filters(text: str, reason: str) -> None:
    made = {
        "form": "pair",
        "entities": ["a", "b"],
        "text": text,
        "finish_reason": "stop",
        "completion_tokens": 9,
        "model": "m",
        "question": DOCUMENT,
    }
    row = Row("r", {"task_id": "doc1", **made})
    outcome = asyncio.run(EntiGraph(recipe_of(check_names=False)).filter(row, llm(Model(), row)))
    assert (outcome.reason if isinstance(outcome, Dropped) else "") == reason
    off = EntiGraph(recipe_of(preset="paper"))
    loose = asyncio.run(off.filter(row, llm(Model(), row)))
    assert isinstance(loose, Dropped) == (reason in ("empty_answer", "repetition")), (
        "these are filters of the recipe"
    )
    assert off.stages()["filter"].steps == {} and list(EntiGraph(recipe_of()).stages()["filter"].steps) == [
        "near_duplicates"
    ]


@pytest.mark.parametrize("seed", range(3))
def test_one_of_two_like_texts_of_one_document_stays_in_any_order(seed: int) -> None:
    rng = random.Random(7)
    base, another = (" ".join(f"word{rng.randrange(400)}" for _ in range(120)) for _ in range(2))
    near = base.rsplit(" ", 1)[0] + " other"
    texts = {"b": base, "a": near, "c": another, "d": base.upper()}
    rows = [Row(i, {"task_id": "doc", "text": t}) for i, t in texts.items()] + [
        Row("e", {"task_id": "other", "text": base})
    ]
    random.Random(seed).shuffle(rows)
    step = EntiGraph(recipe_of()).stages()["filter"].steps["near_duplicates"]
    verdicts = {row.id: verdict for row, verdict in step(lambda: rows)}
    assert {i for i, v in verdicts.items() if v is None} == {"a", "c", "e"}
    assert verdicts["b"].reason == "near_duplicate" and "row a" in verdicts["d"].detail


def test_a_judge_drops_what_is_unfaithful_and_says_when_it_cannot_be_read() -> None:
    rows = generate(Model(), max_triples=0).rows
    model = Model()
    kept, reasons = through(Kept(rows), model, faithfulness=1.0)
    assert (
        reasons.keys() == {"unfaithful"}
        and reasons.total() + len(kept) == 11
        and model.steps() == {"judge": 11}
    )
    assert all(r.payload["verdict"]["faithful"] for r in kept)
    half = Model()
    through(Kept(rows), half, faithfulness=0.5)
    assert 0 < half.steps()["judge"] < 11
    unread = Model(lambda request, index: "I think so")
    kept, reasons = through(Kept(rows), unread, faithfulness=1.0)
    assert len(kept) == 11 and not reasons and kept[0].payload["verdict"]["faithful"] is None
    assert "0 of 11 (11 unreadable)" in EntiGraph(recipe_of()).notes(kept)[1]
