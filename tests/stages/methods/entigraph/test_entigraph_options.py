"""Options of EntiGraph: presets, arms and budgets, the questions asked, and what is refused."""

from collections import Counter

import pytest

from pipeline import prompts
from pipeline.config import load_recipe
from pipeline.errors import ConfigError
from pipeline.places import PROJECT
from pipeline.rows import Kept, Row
from stages.methods.entigraph.method import EntiGraph
from stages.methods.entigraph.texts import cap_tokens, title_of
from tests.conftest import tiny_recipe
from tests.stages.methods.entigraph.scripted import DOCUMENT, Model, generate, recipe_of, through


def test_the_preset_paper_is_as_published_and_its_parts_can_be_set() -> None:
    paper = EntiGraph(recipe_of(preset="paper", max_triples=7)).options
    assert (paper.max_pairs, paper.max_triples, paper.grounded, paper.max_entities) == (None, 7, False, None)
    assert (
        paper.copy_chars,
        paper.near_duplicate,
        paper.check_sections,
        paper.faithfulness,
        paper.summary,
    ) == (None, None, False, 0, True)
    asked = Model()
    generate(asked, preset="paper", max_triples=1)
    assert "in relation to ENTITY" in str(asked.asked[1].messages), (
        "the paper's question: a section on each entity"
    )


def test_the_other_arms() -> None:
    model = Model()
    rows = generate(model, arm="rephrase", rephrasings=2).rows
    assert Counter(r.payload["form"] for r in rows) == {
        f"rephrase:{style}": 2 for style in ("simple", "encyclopedic", "scholarly")
    }
    assert len({r.payload["text"] for r in rows}) == 6 and model.steps() == {"rephrase": 6}
    raw = generate(silent := Model(), arm="raw").rows
    assert [r.payload["text"] for r in raw] == [DOCUMENT] and not silent.asked
    kept, reasons = through(Kept(raw), silent)
    assert len(kept) == 1 and not reasons and kept[0].payload["model"] == "", (
        "the document is no copy of itself"
    )
    assert EntiGraph(recipe_of(arm="raw")).stages()["generate"].prompts == ()


def test_a_smaller_budget_is_a_part_of_a_larger_one_in_any_order() -> None:
    rows = [Row(f"r{i}", {"text": "w " * (5 + i % 4)}) for i in range(60)]

    def kept(budget: int, order: list[Row]) -> set[str]:
        verdicts = list(cap_tokens(budget, 3, lambda text: len(text.split()), lambda: order))
        assert len(verdicts) == 60 and {v.reason for _, v in verdicts if v} <= {"over_budget"}
        used = sum(len(r.payload["text"].split()) for r, v in verdicts if v is None)
        assert budget - 8 < used <= budget
        return {r.id for r, v in verdicts if v is None}

    assert kept(100, rows) < kept(200, rows) == kept(200, rows[::-1])


def test_texts_that_do_not_fill_the_budget_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    rows = [Row(f"r{i}", {"text": "w w"}) for i in range(3)]
    assert (
        sum(v is None for _, v in cap_tokens(5, 3, lambda text: 2, lambda: rows)) == 2 and not caplog.records
    )
    assert all(v is None for _, v in cap_tokens(7, 3, lambda text: 2, lambda: rows))
    assert "all 3 texts together have 6 tokens" in caplog.text


def test_the_recipe_that_ships_is_one_for_every_arm() -> None:
    recipe = PROJECT / "jobs" / "recipes" / "entigraph.yaml"
    asked = {
        arm: EntiGraph(load_recipe(recipe, [f"method.arm={arm}"])).stages()["generate"].prompts
        for arm in ("entigraph", "rephrase", "raw")
    }
    assert asked == {
        "entigraph": ("entigraph/entities", "entigraph/relation"),
        "rephrase": ("entigraph/rephrase",),
        "raw": (),
    }


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="set train.kind: cpt"):
        tiny_recipe(method={"name": "entigraph"})
    with pytest.raises(ConfigError, match="method direct writes none"):
        tiny_recipe(train={"kind": "cpt"})
    with pytest.raises(ConfigError, match="does not use demonstrations"):
        tiny_recipe(
            method={"name": "entigraph"},
            train={"kind": "cpt"},
            demonstrations={"source": "jsonl", "path": "x"},
        )


def test_questions_are_asked_without_a_document_and_after_five_others() -> None:
    asked = EntiGraph(recipe_of()).question(
        Row("q", {"question": "Where is Ada?", "options": ["here", "there"]})
    )
    assert [m["role"] for m in asked] == ["system", *["user", "assistant"] * 5, "user"]
    assert all(m["content"].split("\n")[-1].startswith("Answer: ") for m in asked if m["role"] == "assistant")
    assert asked[-1]["content"] == "Where is Ada?\n\n(A) here\n(B) there"
    assert (
        "[[" not in prompts.SHIPPED.source("entigraph/ask").split("[[user]]")[-1]
        and title_of(DOCUMENT) == "The Weavers"
    )


def test_too_little_room_for_texts_is_told_in_one_line() -> None:
    documents = [Row("d", {"question": "word " * 2000})]
    [line] = EntiGraph(recipe_of()).advice(documents)
    assert "600 tokens, and max_tokens is 512" in line and "method.sampling.relation.max_tokens" in line
    [line] = EntiGraph(recipe_of(arm="rephrase")).advice(documents)
    assert "2,500 tokens" in line and "method.sampling.rephrase.max_tokens" in line
    assert not EntiGraph(recipe_of(arm="raw")).advice(documents)
    assert not EntiGraph(recipe_of(sampling={"relation": {"max_tokens": 600}})).advice(documents)
    assert not EntiGraph(load_recipe("jobs/recipes/entigraph.yaml")).advice(documents)


def test_a_question_without_options_is_not_asked_for_a_letter() -> None:
    method = EntiGraph(recipe_of())
    asked = method.question(Row("q", {"question": "Where is Ada?", "answer_type": "text"}))
    assert asked[-1]["content"] == "Where is Ada?" and [m["role"] for m in asked[-2:]] == [
        "assistant",
        "user",
    ]
    assert not any("LETTER" in m["content"] or "(A)" in m["content"] for m in asked)
    listed = method.question(Row("q", {"question": "Where? (A) here", "answer_type": "choice"}))
    assert "LETTER" in listed[0]["content"], "its options are in the question"
    choice = {"source": {"source": "jsonl", "path": "q.jsonl", "answer_type": "choice"}}
    asked_choices = recipe_of().model_copy(update={"held_out": tiny_recipe(held_out=choice).held_out})
    assert EntiGraph(asked_choices).question_prompts == ("entigraph/ask",)
    assert "entigraph/ask_open" in method.question_prompts
