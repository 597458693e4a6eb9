"""EntiGraph through the whole loop, with a worker killed in the middle of a document."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset, load_from_disk

from pipeline.branch import branch
from pipeline.config import Recipe, build_recipe
from pipeline.errors import SelfloopError
from pipeline.lineage import trace
from pipeline.overview import overview
from pipeline.rundir import RunDir
from pipeline.stage import STAGES
from pipeline.store import request_log
from stages.methods.entigraph.method import EntiGraph
from stages.reports.scaling import points
from stages.rounds.loop import Loop
from tests.conftest import tiny_recipe
from tests.in_process import stages_on_ray
from tests.jobs.conftest import selfloop
from tests.stages.methods.entigraph.inputs import write_inputs
from tests.stages.methods.entigraph.scripted import Model, llm
from tests.training.conftest import tiny_model

__all__ = ["selfloop", "tiny_model"]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, in_process: None, local_ray: Any, tiny_model: Path
) -> tuple[RunDir, Recipe]:
    """A run of one round, from the documents to the evaluation.

    The ninth relation kills the stage worker once.
    """
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
