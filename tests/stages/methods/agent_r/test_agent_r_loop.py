"""The whole loop of Agent-R on the counter game and a tiny model: real Ray, real TRL, the scripted engine."""

import asyncio
import json
from pathlib import Path

import pytest
from datasets import load_dataset, load_from_disk

from jobs.trees import round_with_tree, trees
from pipeline.config import Recipe
from pipeline.lineage import trace
from pipeline.rundir import RunDir
from pipeline.stage import RESUMED, STAGES
from pipeline.store import request_log
from stages.reports.page import render
from stages.reports.table import rounds_table
from stages.rounds.loop import Loop
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.stages.reports.parsed import Parsed
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(400)]
COUNTER = {"source": "environment", "dataset": "tests.stages.methods.agent_r.search.counter:Counter"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, in_process: None, tiny_model: Path) -> RunDir:
    """Demonstrations, one round of search, one training on both.

    The models before and after it are evaluated.
    """
    run = RunDir(tmp_path_factory.mktemp("agent_r") / "run")
    recipe = tiny_recipe(
        rounds=1,
        model={"base": str(tiny_model)},
        engine={"kind": "scripted", "answers": "tests.stages.methods.agent_r.search.player:play_and_judge"},
        tasks={**COUNTER, "options": {"train": 8, "test": 5}},
        demonstrations={
            **COUNTER,
            "options": {"train": 4, "oracle": True},
            "columns": {"solution": "solution"},
        },
        method={"name": "agent_r", "depth": 5, "simulations": 4, "alpha": [0.5]},
        train={"max_steps": 1, "batch_size": 2, "max_length": 448},
        evaluate={"bootstrap": 100},
    )
    asyncio.run(go_through(run, run.freeze(recipe)))
    return run


async def go_through(run: RunDir, recipe: Recipe) -> None:
    freeze(run, recipe)
    async with Loop(run, recipe) as loop:
        await loop.evaluate("base")
        await loop.publish(0)
        for name in STAGES:
            await loop.stage(1, name)
        await loop.publish(1)
        await loop.train(1)
        await loop.evaluate(1)


def test_every_stage_conserves_rows_and_both_rounds_are_published(finished: RunDir) -> None:
    manifests = {s: finished.manifest(finished.stage(1, s)) for s in (*STAGES, "publish")}
    for manifest in manifests.values():
        manifest.check()
    assert (
        manifests["generate"].rows_out == 8
        and manifests["critique"].rows_out > 20 < manifests["verify"].rows_in
    )
    train = json.loads(Path(finished.stage(1, "train"), "train.json").read_text())
    assert (
        train["shares"]["real"] == 4
        and train["shares"]["synthetic"] == manifests["publish"].rows_out - train["left_out"] > 10
    )


def test_what_a_search_cost_is_in_the_manifests(finished: RunDir) -> None:
    trees = [row.payload["search"] for row in finished.rows(finished.stage(1, "generate"))]
    found = finished.manifest(finished.stage(1, "generate")).extra
    assert found["trees"] == 8 and all(
        found[name] == sum(t[name] for t in trees)
        for name in ("llm_calls", "children", "leaves", "environment_steps")
    )
    assert 0 < found["steps_per_child"] <= 1 and found["note"].startswith("8 trees, ")
    rows = list(finished.rows(finished.stage(1, "critique")))
    records = [row.payload for row in rows]
    made = finished.manifest(finished.stage(1, "critique")).extra
    ways = [(r["first_bad"], r["bad_steps"], r["prefix"]) for r in records if r["kind"] == "revision"]
    assert made["turned_after"] == pytest.approx(
        sum((bad or whole) - prefix for bad, whole, prefix in ways) / len(ways), abs=1e-3
    )
    assert made["found_after"] == pytest.approx(
        sum(b - p for b, _, p in ways if b) / made["bad_step_found"], abs=1e-3
    )
    assert sum(made["records"].values()) == len(records) and made["bad_step_found"] == sum(
        bool(r.get("first_bad")) for r in records
    )
    assert (
        sum(made["judged"].values())
        == len({(row.parents[0], j["node"]) for row in rows for j in row.payload.get("judge", ())})
        > 0
    )


def test_published_episodes_load_and_hold_no_test_task(finished: RunDir, tmp_path: Path) -> None:
    held_out = {row.id for row in finished.rows(finished.tasks("held_out"))}
    first = {row.payload["question"] for row in finished.rows(finished.tasks("held_out"))}
    for round_, records in ((0, {"demonstration"}), (1, {"revision", "good"})):
        folder = finished.dataset("turns", round_)
        dataset = load_from_disk(folder)["train"]
        assert load_dataset(folder, split="train", cache_dir=str(tmp_path))["row_id"] == dataset["row_id"]
        assert set(dataset["src_record"]) == records and not held_out & set(dataset["task_id"])
        assert not first & {turn["content"] for row in dataset for turn in row["turns"]}
    assert len(held_out) == 5
    assert "Records: good" in Path(finished.dataset("turns", 1), "README.md").read_text()


def test_requests_are_in_the_log_once_and_the_same_command_asks_nothing(finished: RunDir) -> None:
    records = list(request_log.records(f"{finished.stage(1, 'generate')}/requests"))
    calls = sum(row.payload["search"]["llm_calls"] for row in finished.rows(finished.stage(1, "generate")))
    assert len(records) == len({r["key"] for r in records}) == calls
    asyncio.run(go_through(finished, finished.recipe()))
    assert len(list(request_log.records(f"{finished.stage(1, 'generate')}/requests"))) == calls


def test_evaluation_has_intervals_measures_and_a_table(finished: RunDir) -> None:
    facts = rounds_table(finished)
    assert [f["round"] for f in facts] == ["base", 1] and facts[1]["against_base"]["round"] == "base"
    for f in facts:
        assert f["n"] == 5 and f["greedy"]["low"] <= f["greedy"]["mean"] <= f["greedy"]["high"]
        assert {"score", "steps", "executed", "loops of 1", "loops of 6"} <= f["measures"].keys()
        assert 0 <= f["measures"]["score"]["low"] <= f["measures"]["score"]["mean"] <= 1
    failed = sum(
        not row.payload["greedy"]["correct"] for row in finished.rows(finished.stage("base", "evaluate"))
    )
    assert (
        failed
        and "resumed score" not in facts[0]["measures"]
        and facts[1]["measures"]["resumed score"]["n"] <= failed
    )
    for row in finished.rows(finished.stage(1, RESUMED)):
        told = next(
            r
            for r in request_log.records(f"{finished.stage(1, RESUMED)}/requests")
            if r["row"] == row.parents[0]
        )
        half = row.payload["greedy"]["actions"][: len(row.payload["greedy"]["actions"]) // 2]
        assert [m["content"] for m in told["messages"][2::2]][: len(half)] == [f"Action: {a}" for a in half]


def test_an_episode_leads_back_to_its_task(finished: RunDir) -> None:
    published = load_from_disk(finished.dataset("turns", 1))["train"]
    row = next(r for r in published if r["src_record"] == "revision")
    links = trace(finished, row["row_id"])
    assert (
        next(link.stage for link in links if not link.asked) == "tasks/train"
        and links[0].id == row["task_id"]
    )
    asked = next(link for link in links if link.asked)
    assert asked.published[0].turns == row["turns"] and asked.published[0].tokens_loss == row["tokens_loss"]


def test_the_tree_is_shown_with_what_became_of_its_leaves(finished: RunDir, tmp_path: Path) -> None:
    shown = trees(finished, 1, None)
    assert (
        len(shown) == 8
        and sum(len(t["records"]) for t in shown) == finished.manifest(finished.stage(1, "critique")).rows_out
    )
    assert any(r["kind"] == "revision" and r["t_prime"] for t in shown for r in t["records"])
    assert round_with_tree(finished, shown[0]["id"][:12]) == 1 and round_with_tree(finished, "none") is None


def test_the_report_shows_the_tree_on_the_way_to_an_episode(finished: RunDir) -> None:
    grown = {row.id: row.payload["tree"] for row in finished.rows(finished.stage(1, "generate"))}
    ways = [dict(way) for _, way, _, _ in Parsed(render([finished])).rows()]
    revisions = [way for way in ways if way.get("critique", {}).get("kind") == "revision" and "verify" in way]
    assert len(revisions) > 20
    for way in revisions:
        tree = way["generate"]["tree"]
        nodes = {node[0]: node for node in tree["nodes"]}
        assert tree["of"] in [len(nodes) for nodes in grown.values()]
        assert all(node[1] in nodes for node in nodes.values() if node[1] is not None)
        assert set(way["critique"]["leaves"]) <= nodes.keys() and way["verify"]["messages"]
