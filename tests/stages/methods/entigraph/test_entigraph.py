"""EntiGraph: its texts by scripted answers, the faults of the released code (2.10), and one run of the whole loop."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset, load_from_disk

from pipeline import prompts
from pipeline.branch import branch
from pipeline.config import Recipe, build_recipe, load_recipe
from pipeline.engines.base import Completion, Request, Sampling
from pipeline.errors import ConfigError, EngineDied, EngineError, SelfloopError
from pipeline.lineage import trace
from pipeline.overview import overview
from pipeline.places import PROJECT
from pipeline.rows import Dropped, Failed, Kept, Row
from pipeline.rundir import RunDir
from pipeline.runner.llm import LLM
from pipeline.stage import STAGES
from pipeline.store import request_log
from stages.methods.entigraph.method import EntiGraph
from stages.methods.entigraph.texts import cap_tokens, sections, title_of
from stages.reports.scaling import points
from stages.rounds.loop import Loop
from tests.conftest import tiny_recipe
from tests.in_process import stages_on_ray
from tests.jobs.conftest import selfloop
from tests.stages.methods.entigraph.answers import writes
from tests.training.conftest import tiny_model

__all__ = ["selfloop", "tiny_model"]

NAMES = ["Ada", "the loom", "Marseille", "silver", "the long winter"]
DOCUMENT = (
    f"The Weavers\n\nThings: {', '.join(NAMES)}.\n\n" + " ".join(f"sentence{i}" for i in range(80)) + "."
)
Script = Callable[[Request, int], Any]


def recipe_of(**method: Any) -> Recipe:
    return tiny_recipe(
        method={"name": "entigraph", **method},
        train={"kind": "cpt"},
        tasks={"source": "documents", "path": "d", "columns": {"answer": None}},
    )


class Model:
    """A model whose finished requests are in a log, as in a run. `fails` says which requests raise what."""

    def __init__(
        self, script: Script = writes, fails: Callable[[Request], Exception | None] = lambda request: None
    ) -> None:
        self.script, self.fails = script, fails
        self.log: dict[str, list[Completion]] = {}
        self.asked: list[Request] = []

    async def __call__(self, request: Request) -> list[Completion]:
        await asyncio.sleep(0)
        if (key := request.key("m@1")) not in self.log:
            self.asked.append(request)
            if error := self.fails(request):
                raise error
            made = [self.script(request, i) for i in range(request.n)]
            self.log[key] = [
                m if isinstance(m, Completion) else Completion(m, "stop", 10, len(m.split())) for m in made
            ]
        return self.log[key]

    def steps(self) -> Counter[str]:
        return Counter(r.step.split("/")[1] for r in self.asked)


def llm(model: Model, row: Row, round_: int = 1) -> LLM:
    return LLM(model, row.id, "m@1", Sampling(max_tokens=300), round_)


def task(document: str = DOCUMENT) -> Row:
    return Row("doc1", {"task_id": "doc1", "question": document, "answer": None})


def generate(model: Model, document: str = DOCUMENT, round_: int = 1, **method: Any) -> Any:
    row = task(document)
    return asyncio.run(EntiGraph(recipe_of(**method)).generate(row, llm(model, row, round_)))


def through(outcome: Kept, model: Model, **method: Any) -> tuple[list[Row], Counter[str]]:
    """Give rows to critique and filter; return those that are kept, and why the others were dropped."""
    made, reasons, rows = EntiGraph(recipe_of(**method)), Counter(), outcome.rows
    for stage in (made.critique, made.filter):
        outcomes = [asyncio.run(stage(row, llm(model, row))) for row in rows]
        reasons.update(o.reason for o in outcomes if isinstance(o, Dropped))
        rows = [r for o in outcomes if isinstance(o, Kept) for r in o.rows]
    return rows, reasons


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
            EngineError("too long")
            if "- silver" in str(request.messages) and "- Ada" in str(request.messages)
            else None
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
    outcome = asyncio.run(EntiGraph(recipe_of()).filter(row, llm(Model(), row)))
    assert (outcome.reason if isinstance(outcome, Dropped) else "") == reason
    off = EntiGraph(recipe_of(preset="paper"))
    loose = asyncio.run(off.filter(row, llm(Model(), row)))
    assert isinstance(loose, Dropped) == (reason in ("empty_answer", "repetition")), (
        "these are filters of the recipe"
    )
    assert off.stages()["filter"].steps == {} and list(EntiGraph(recipe_of()).stages()["filter"].steps) == [
        "near_duplicates"
    ]


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


@pytest.mark.train
def test_a_smaller_budget_branches_from_what_is_written(
    finished: tuple[RunDir, Recipe], tmp_path: Path
) -> None:
    run, recipe = finished
    small = recipe.model_copy(update={"method": {**recipe.method, "token_budget": 2000}})
    given = recipe.model_dump(mode="json")
    given["train"]["cpt"]["replay"]["path"] = "elsewhere.jsonl"
    other = build_recipe(given)
    with pytest.raises(
        SelfloopError, match=r"takes over(.|\n)*train\.cpt\.replay\.path: .* -> 'elsewhere.jsonl'"
    ):
        branch(run, RunDir(tmp_path / "other"), other, 0)
    branch(run, half := RunDir(tmp_path / "half"), small, 0)
    assert (
        all(half.manifest(half.stage(1, stage)) for stage in STAGES)
        and half.manifest(half.stage(1, "publish")) is None
    )
    asyncio.run(Loop(half, half.freeze(small)).publish(1))
    few, many = (set(load_from_disk(r.dataset("cpt", 1))["train"]["text"]) for r in (half, run))
    assert few < many


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


# --- One run of the whole loop, whose worker is killed in the middle of a document


def write_inputs(folder: Path, extra: str = "") -> dict[str, Any]:
    """Write three documents, six questions on them, and general text; return the recipe's sections that name them."""
    (folder / "docs").mkdir(parents=True)
    rows = []
    for d in range(3):
        names = [f"{name}{d}" for name in ("Ada", "Loom", "Marseille", "Silver", "Winter")]
        (folder / "docs" / f"doc{d}.txt").write_text(
            f"Weavers {d}{extra}\n\nThings: {', '.join(names)}.\n\n"
            + " ".join(f"s{d}x{i}" for i in range(60))
            + ".\n"
        )
        rows += [
            {
                "question": f"What is {k} of Weavers {d}?",
                "options": ["red", "blue", "green", "gold"],
                "answer": "ABCD"[(d + k) % 4],
                "document": f"doc{d}",
            }
            for k in range(2)
        ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "general.jsonl").write_text(
        "".join(
            json.dumps({"text": f"General {i} " + " ".join(f"g{i}y{k}" for k in range(50))}) + "\n"
            for i in range(12)
        )
    )
    questions = {
        "source": "jsonl",
        "path": str(folder / "questions.jsonl"),
        "answer_type": "choice",
        "columns": {"options": "options", "document": "document"},
    }
    general = {
        "source": "jsonl",
        "path": str(folder / "general.jsonl"),
        "columns": {"question": "text", "answer": None},
    }
    return {
        "rounds": 1,
        "tasks": {"source": "documents", "path": str(folder / "docs"), "columns": {"answer": None}},
        "held_out": {"source": questions},
        "train": {
            "kind": "cpt",
            "max_steps": 3,
            "batch_size": 4,
            "max_length": 64,
            "cpus_per_worker": 1,
            "precision": "fp32",
            "save_steps": 2,
            "cpt": {"replay": general, "replay_rate": 0.25},
        },
        "evaluate": {"how": "loglikelihood", "bootstrap": 200},
    }


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, in_process: None, local_ray: Any, tiny_model: Path
) -> tuple[RunDir, Recipe]:
    """A run of one round, from the documents to the evaluation; the ninth relation kills the stage worker once."""
    folder = tmp_path_factory.mktemp("entigraph")
    (folder / "marks").mkdir()
    recipe = tiny_recipe(
        **write_inputs(folder, f" [{folder / 'marks'}]"),
        model={"base": str(tiny_model)},
        runner={"sync_seconds": 0.01},
        engine={
            "kind": "scripted",
            "answers": "tests.stages.methods.entigraph.answers:dies_once",
            "latency": 0.02,
            "jitter": 0.9,
        },
        sampling={"max_tokens": 400},
        method={"name": "entigraph", "max_triples": 4, "faithfulness": 0.5, "token_budget": 6000},
    )
    run = RunDir(folder / "run")
    with stages_on_ray():
        asyncio.run(Loop(run, run.freeze(recipe)).iterate(1))
    return run, recipe


@pytest.mark.train
@pytest.mark.timeout(240)
def test_a_run_from_documents_to_what_the_model_knows(
    finished: tuple[RunDir, Recipe], selfloop: Any, tmp_path: Path
) -> None:
    run, recipe = finished
    for stage in (*STAGES, "publish"):
        run.manifest(run.stage(1, stage)).check()
    made = list(run.rows(run.stage(1, "generate")))
    assert (
        Counter(r.payload["form"] for r in made) == {"summary": 3, "pair": 30, "triple": 12}
        and len({(r.parents[0], r.payload["key"]) for r in made}) == 45
    )
    assert (
        run.manifest(run.tasks("train")).rows_out == 3 and run.manifest(run.tasks("held_out")).rows_out == 6
    )

    folder = run.dataset("cpt", 1)
    published = load_from_disk(folder)["train"]
    assert load_dataset(folder, split="train", cache_dir=str(tmp_path))["text"] == published["text"]
    assert (
        0 < sum(published["tokens_text"]) <= 6000
        and run.manifest(run.stage(1, "publish")).dropped_in_all()["over_budget"] > 0
    )
    assert (
        set(published["src_form"]) <= {"summary", "pair", "triple"}
        and not (Path(run.root) / "datasets" / "sft").exists()
    )
    assert "Arm: entigraph" in (Path(folder) / "README.md").read_text()

    trained = json.loads(Path(run.stage(1, "train"), "train.json").read_text())
    packing = trained["shares"]["packing"]
    assert (trained["kind"], trained["steps"], trained["examples"]) == ("cpt", 3, 12) and packing[
        "tokens"
    ] == sum(published["tokens_text"])
    assert (
        trained["tokens"] == 12 * 64
        and packing["replay_share"] == round(packing["replay_blocks"] / 12, 4) > 0
    )
    general = {
        row.payload["question"] for name in ("replay", "replay_held_out") for row in run.rows(run.tasks(name))
    }
    assert len(general) == 12 and not set(published["text"]) & general

    evaluation = json.loads(Path(run.evaluation(1)).read_text())
    assert evaluation["n"] == 6 and evaluation["documents"] == 3 and evaluation["parsed"] == 6
    assert evaluation["replay_perplexity"]["texts"] == run.manifest(run.tasks("replay_held_out")).rows_out > 0
    assert 2.7 < evaluation["replay_perplexity"]["perplexity"] < 7.5, (
        "the script gives from -1 to -2 to every token"
    )

    text = published[0]
    [link] = [link for link in trace(run, text["row_id"]) if link.published]
    assert link.published[0].text == text["text"] and link.published[0].folder == folder
    shown = selfloop("trace", "--run", run.root, text["row_id"])
    assert (
        shown.status == 0
        and f"{text['tokens_text']} tokens" in shown.text
        and "asked" in shown.text
        and "entigraph/" in shown.text
    )
    facts = overview(run)["rounds"][-1]
    assert (
        facts["datasets"][0]["unit"] == "texts"
        and "pairs" not in facts["stages"]
        and facts["train"]["state"] == "done"
    )
    untrained, trained_point = points([run, run])
    assert (untrained.arm, untrained.tokens) == ("untrained", 0) and (
        trained_point.arm,
        trained_point.budget,
    ) == ("entigraph", 6000)
    assert (
        trained_point.tokens == (packing["blocks"] - packing["blocks_not_seen"]) * 64 < packing["tokens"]
    ), "12 blocks do not hold them all"
    assert trained_point.over_untrained.mean == pytest.approx(trained_point.accuracy - untrained.accuracy)
    plotted = selfloop("scaling", run.root, "--out", str(tmp_path / "plot.png"))
    assert plotted.status == 0 and (tmp_path / "plot.png").exists() and "minus untrained" in plotted.text, (
        plotted.text
    )

    watched = [
        p
        for pattern in ("manifest.json", "train.json", "*.safetensors")
        for p in Path(run.root).rglob(pattern)
    ]
    before = {p: p.stat().st_mtime_ns for p in watched}
    asyncio.run(Loop(run, run.freeze(recipe)).iterate(1))
    assert {p: p.stat().st_mtime_ns for p in watched} == before, "the same command again does nothing"


@pytest.mark.train
def test_a_worker_that_was_killed_in_the_middle_of_a_document_lost_no_key_and_made_none_twice(
    finished: tuple[RunDir, Recipe],
) -> None:
    run, recipe = finished
    method, undisturbed = EntiGraph(recipe), []
    for row in run.rows(run.tasks("train")):
        undisturbed += asyncio.run(method.generate(row, llm(Model(), row))).rows
    made = list(run.rows(run.stage(1, "generate")))
    assert (Path(run.root).parent / "marks" / "died").exists()
    assert sorted((r.id, r.payload["key"], r.parents) for r in made) == sorted(
        (r.id, r.payload["key"], r.parents) for r in undisturbed
    )
    log = Counter(record["key"] for record in request_log.records(f"{run.stage(1, 'generate')}/requests"))
    assert len(log) == 3 * 15, "one request for each key"
