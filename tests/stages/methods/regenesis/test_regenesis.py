"""One run of the whole loop of ReGenesis.

Selections, a draw of raw guidelines, hints, and evaluation on further sets.
"""

import asyncio
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from pipeline.errors import StaleError
from pipeline.lineage import trace
from pipeline.rundir import RunDir
from pipeline.stage import STAGES
from pipeline.store import request_log
from stages.methods.regenesis import guidelines
from stages.reports.comparison import compare
from stages.reports.table import rounds_table
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.jobs.conftest import selfloop
from tests.stages.methods.regenesis.rounds import SUMS, asked, card, payloads, recipe_in, write
from tests.training.conftest import tiny_model

__all__ = ["selfloop", "tiny_model"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(600)]

ASKS = "Please reason step by step, and put your final answer within \\boxed{}."
SAMPLING = {"adapt": {"temperature": 0.3, "max_tokens": 40}, "execute": {"max_tokens": 99}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, in_process: None, tiny_model: Path) -> RunDir:
    """A run of one round from the base model, without demonstrations."""
    folder = tmp_path_factory.mktemp("regenesis")
    run = RunDir(folder / "run")
    sets = {
        "far": {
            "source": "jsonl",
            "path": write(
                folder / "far.jsonl",
                [{"question": f"What is {i} + 1000?", "answer": 1000 + i} for i in range(20)],
            ),
        },
        "near": {"source": "jsonl", "path": write(folder / "near.jsonl", SUMS[:10])},
        "gym": {
            "source": "reasoning_gym",
            "dataset": "chain_sum",
            "limit": 12,
            "options": {"min_terms": 2, "max_terms": 2},
        },
    }
    recipe = recipe_in(
        folder,
        tiny_model,
        "chains",
        method={
            "n_selected": 2,
            "raw_per_question": 3,
            "hinted_chains": 2,
            "keep_per_question": 2,
            "sampling": SAMPLING,
        },
        sampling={"temperature": 0.85, "max_tokens": 50},
        held_out={"count": 10},
        train={"max_steps": 1, "batch_size": 2, "max_length": 256},
        evaluate={
            "bootstrap": 100,
            "sets": sets,
            "engine": {"kind": "scripted", "answers": "tests.scripted_answers:sums"},
        },
    )
    asyncio.run(Loop(run, run.freeze(recipe)).iterate(1))
    return run


def test_every_chain_is_a_row_and_none_is_lost(finished: RunDir) -> None:
    for stage in (*STAGES, "publish"):
        finished.manifest(finished.stage(1, stage)).check()
    made = Counter(row["chain"].split(":")[0] for row in payloads(finished, "generate"))
    questions = finished.manifest(finished.tasks("train")).rows_out
    assert (
        made["selected"] == 2 * questions
        and made["raw"] == 3 * questions
        and 0 < made["hinted"] < 2 * questions
    )


def test_fault_15_no_request_is_wasted(finished: RunDir) -> None:
    """Selections and hinted selections are one request each.

    A chain costs three, for nothing is summarised or judged.
    """
    steps = Counter(r["step"].split("/")[1] for r in asked(finished))
    chains = Counter(row["hinted"] for row in payloads(finished, "generate"))
    assert steps["adapt"] == steps["structure"] == steps["execute"] == chains[False]
    assert steps["hinted_adapt"] == steps["hinted_structure"] == steps["hinted_execute"] == chains[True]
    assert steps["select"] == finished.manifest(finished.tasks("train")).rows_out + chains[True] // 2
    assert set(steps) == {
        "select",
        "adapt",
        "structure",
        "execute",
        "hinted_adapt",
        "hinted_structure",
        "hinted_execute",
    }


def test_no_ground_truth_in_any_unhinted_prompt(finished: RunDir) -> None:
    tasks = {row.id: row.payload for row in finished.rows(finished.tasks("train"))}
    seen = Counter()
    for record in asked(finished):
        text = " ".join(m["content"] for m in record["messages"])
        task = tasks[record["row"]]
        assert task["question"] in text
        told = task["answer"] in re.findall(r"\d+", text.replace(task["question"], ""))
        hinted = record["step"].startswith("regenesis/hinted_")
        assert told == hinted, record
        seen[hinted] += 1
    assert seen[False] > 100 and seen[True] > 10


def test_only_questions_without_an_accepted_path_are_hinted_and_it_shows_in_the_dataset(
    finished: RunDir,
) -> None:
    accepted = {True: set(), False: set()}
    for row in payloads(finished, "verify"):
        accepted[row["hinted"]].add(row["task_id"])
    hinted = {row["task_id"] for row in payloads(finished, "generate") if row["hinted"]}
    assert hinted and not hinted & accepted[False] and hinted == accepted[True]
    assert hinted | accepted[False] == {row.id for row in finished.rows(finished.tasks("train"))}, (
        "what generate foresees is what verify finds"
    )
    dataset = load_from_disk(finished.dataset("sft", 1))["train"]
    by_task = {(r["task_id"], r["src_hinted"]) for r in dataset}
    assert by_task == {(t, True) for t in hinted} | {(t, False) for t in accepted[False]}, (
        "fault 11: both kinds are published, each marked"
    )
    share = sum(dataset["src_hinted"])
    assert (
        f"Hinted examples (the answer was shown while the path was written): {share} of {len(dataset)}"
        in card(finished)
    )
    assert max(Counter(dataset["task_id"]).values()) == 2


def test_examples_are_question_and_path_alone(finished: RunDir) -> None:
    rows = {row.id: row.payload for row in finished.rows(finished.stage(1, "publish"))}
    for example in load_from_disk(finished.dataset("sft", 1))["train"]:
        row = rows[example["row_id"]]
        whole = " ".join(m["content"] for m in [*example["prompt"], *example["completion"]])
        assert example["completion"] == [{"role": "assistant", "content": row["text"]}]
        assert not [name for name in ("guideline", "adapted", "structure") if row[name] in whole]
        assert example["prompt"][0]["content"].endswith(ASKS) and re.search(
            r"^Answer: \d+$", row["text"], re.MULTILINE
        )
    evaluated = next(request_log.records(f"{finished.stage('base', 'evaluate')}/requests"))["messages"]
    assert [m["role"] for m in evaluated] == ["user"] and evaluated[0]["content"].endswith(ASKS), (
        "evaluation asks as training does"
    )


def test_selections_are_of_the_given_guidelines_and_the_draw_differs_by_question(finished: RunDir) -> None:
    known = {g.text for g in guidelines.read_guidelines(guidelines.DEFAULT).values()}
    rows = payloads(finished, "generate")
    assert {row["guideline"] for row in rows} <= known and {
        row["guideline_type"] for row in rows if "selected" in row["chain"]
    } == {"selected"}
    draws: dict[str, set[str]] = {}
    for row in rows:
        if row["chain"].startswith("raw:"):
            draws.setdefault(row["task_id"], set()).add(row["chain"])
    assert {len(d) for d in draws.values()} == {3} and len({frozenset(d) for d in draws.values()}) > 10
    offered = next(r for r in asked(finished) if r["step"] == "regenesis/select" and r["sample_index"])[
        "messages"
    ][-1]["content"]
    assert "so far" not in offered and "25." not in offered, (
        "a hinted chain has no earlier solution to revise"
    )


def test_each_step_has_its_own_sampling(finished: RunDir) -> None:
    used = {
        r["step"].replace("hinted_", ""): (r["sampling"]["temperature"], r["sampling"]["max_tokens"])
        for r in asked(finished)
    }
    assert used == {
        "regenesis/select": (0.85, 50),
        "regenesis/adapt": (0.3, 40),
        "regenesis/structure": (0.85, 50),
        "regenesis/execute": (0.85, 99),
    }
    assert all(
        json.loads(s)["max_tokens"] == 99
        for s in load_from_disk(finished.dataset("sft", 1))["train"]["src_sampling"]
    )


def test_trace_shows_the_whole_chain(finished: RunDir, selfloop: Any) -> None:
    published = load_from_disk(finished.dataset("sft", 1))["train"][0]["row_id"]
    *_, last = trace(finished, published)
    row = last.payload
    assert [link.stage for link in trace(finished, published)] == [
        "tasks/train",
        "generate",
        "critique",
        "filter",
        "verify",
    ]
    shown = selfloop("trace", "--run", finished.root, published, "--full")
    assert shown.status == 0, shown.text
    wanted = [
        row["question"],
        row["guideline"],
        row["adapted"],
        row["structure"].split("\n")[1],
        row["text"].split("\n")[1],
        "right, extracted",
        "published as",
    ]
    below = shown.text[shown.text.index(f"{last.parents[0][:0]}made by generate") :]
    places = [shown.text.index(wanted[0]), *(below.index(text) for text in wanted[1:])]
    assert all(a < b for a, b in pairwise(places[1:])), shown.text
    short = selfloop("trace", "--run", finished.root, published).text
    ids = {r["key"] for r in asked(finished) if r["row"] == row["task_id"]}
    own = short.count("generate, round 1: asked")
    assert 3 <= own < len(ids) and f"{len(ids) - own} other requests of this row" in short
    assert row["adapted"] in short and row["structure"].split("\n")[1] in short


def test_further_sets_are_frozen_evaluated_and_shown(finished: RunDir, selfloop: Any) -> None:
    for round_ in ("base", 1):
        found = json.loads(Path(finished.evaluation(round_)).read_text())["sets"]
        assert {name: m["n"] for name, m in found.items()} == {"far": 20, "near": 10, "gym": 12}
        assert all(
            0 <= m["greedy"]["low"] <= m["greedy"]["mean"] <= m["greedy"]["high"] <= 1 for m in found.values()
        )
        assert 0 < found["far"]["greedy"]["mean"] < 1
    assert (
        found["far"]["against_base"]["difference"]["mean"]
        == found["far"]["against_previous"]["difference"]["mean"]
    )
    assert all(row.payload["greedy"]["text"] for row in finished.rows(finished.stage(1, "evaluate-gym")))
    facts = rounds_table(finished)
    assert [f["round"] for f in facts] == ["base", 1] and set(facts[1]["sets"]) == {"far", "near", "gym"}
    assert facts[1]["tokens"] == sum(
        finished.manifest(finished.stage(1, s)).tokens.completion
        for s in ("evaluate", "evaluate-far", "evaluate-near", "evaluate-gym")
    )
    shown = selfloop("inspect", "--run", finished.root).text
    assert (
        "far, n = 20" in shown
        and "gym, n = 12" in shown
        and "20 of far to evaluate with" in shown
        and "evaluate-near" in shown
    )
    one = selfloop("inspect", "--run", finished.root, "--round", "1", "--stage", "evaluate-far")
    assert one.status == 0 and "on 20 questions" in one.text, one.text
    assert "sets/gym: 12" in selfloop("inspect", "--run", finished.root, "--stage", "tasks").text
    arm = compare([finished])[0]
    assert arm["first"] == "base model" and len(arm["accuracy"]) == 2 and arm["sets"]["gym"]["n"] == 12
    low, high = (arm["sets"]["far"]["last_minus_round_0"][k] for k in ("low", "high"))
    assert low <= arm["sets"]["far"]["last_minus_round_0"]["mean"] <= high
    question = next(finished.rows(finished.tasks("sets/far"))).id
    assert next(link.stage for link in trace(finished, question, 1)) == "tasks/sets/far"


def test_questions_of_further_sets_are_neither_learnt_from_nor_published(
    finished: RunDir, tmp_path: Path
) -> None:
    near = {row.payload["question"] for row in finished.rows(finished.tasks("sets/near"))}
    learnt = {row.payload["question"] for row in finished.rows(finished.tasks("train"))}
    assert len(near) == 10 and not near & learnt
    assert (
        finished.manifest(finished.path("tasks")).rows_dropped["equal_to_evaluation_set"] + len(learnt) == 30
    )
    manifest = finished.manifest(finished.stage(1, "publish"))
    assert {"held_out", "sets_far", "sets_near", "sets_gym"} <= {step.name for step in manifest.steps}
    recipe = finished.recipe()
    more = recipe.evaluate.model_copy(
        update={"sets": {**recipe.evaluate.sets, "new": recipe.evaluate.sets["far"]}}
    )
    fewer = recipe.evaluate.model_copy(
        update={
            "sets": {
                **recipe.evaluate.sets,
                "far": recipe.evaluate.sets["far"].model_copy(update={"limit": 3}),
            }
        }
    )
    with pytest.raises(StaleError, match="evaluate.sets.far changed after tasks were read"):
        freeze(finished, recipe.model_copy(update={"evaluate": fewer}))
    with pytest.raises(StaleError, match="evaluate.sets.new changed after tasks were read"):
        freeze(finished, recipe.model_copy(update={"evaluate": more}))
