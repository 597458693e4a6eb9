"""The whole loop on a tiny model: Ray, TRL, the scripted engine.

Then branches of that run, and both side by side.
"""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from datasets import load_dataset, load_from_disk
from ray.train.torch import TorchTrainer

from pipeline.branch import branch
from pipeline.config import Recipe, build_recipe
from pipeline.engines.pool import EnginePool
from pipeline.errors import ConfigError, SelfloopError, StageError, StaleError
from pipeline.publish import SFT
from pipeline.publish.loading import load_mixture
from pipeline.rundir import RunDir
from pipeline.stage import STAGES
from pipeline.store import request_log
from stages.methods.direct.method import Direct, DirectOptions
from stages.reports.comparison import compare
from stages.reports.table import rounds_table
from stages.rounds import training
from stages.rounds.loop import Loop
from tests.conftest import tiny_recipe
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(400)]


def iterate(run: RunDir, recipe: Recipe) -> None:
    asyncio.run(Loop(run, run.freeze(recipe)).iterate(recipe.rounds))


def recipe_in(folder: Path, model: Path, **changes: Any) -> Recipe:
    tasks = [{"question": f"What is {i} + {i % 7}?", "answer": i + i % 7} for i in range(150)]
    worked = [{"question": f"What is {i} - 1?", "answer": i - 1} for i in range(200, 208)]
    for name, rows in (("tasks", tasks), ("worked", worked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    settings: dict[str, Any] = {
        "rounds": 2,
        "model": {"base": str(model)},
        "engine": {"kind": "scripted", "answers": "tests.scripted_answers:sums"},
        "tasks": {"source": "jsonl", "path": str(folder / "tasks.jsonl")},
        "demonstrations": {"source": "jsonl", "path": str(folder / "worked.jsonl")},
        "held_out": {"count": 30},
        "questions_per_round": 40,
        "train": {"max_steps": 1, "batch_size": 2},
        "evaluate": {"samples": 4, "bootstrap": 100},
    }
    return tiny_recipe(**{**settings, **changes})


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, in_process: None, tiny_model: Path
) -> tuple[RunDir, Recipe]:
    """A run of two rounds, from the start to the table."""
    folder = tmp_path_factory.mktemp("loop")
    run, recipe = RunDir(folder / "run"), recipe_in(folder, tiny_model)
    iterate(run, recipe)
    return run, recipe


def test_rows_conserved_and_data_accumulated(finished: tuple[RunDir, Recipe]) -> None:
    run, _ = finished
    for round_ in (1, 2):
        manifests = {s: run.manifest(run.stage(round_, s)) for s in (*STAGES, "publish")}
        for manifest in manifests.values():
            manifest.check()
        assert manifests["generate"].rows_in == 40 and manifests["generate"].rows_out == 160
        assert (
            manifests["filter"].rows_in == 160
            and manifests["publish"].rows_in == manifests["verify"].rows_out > 0
        )
    shares = [json.loads(Path(run.stage(r, "train"), "train.json").read_text())["shares"] for r in range(3)]
    assert [s["real"] for s in shares] == [8, 8, 8]
    published = [run.manifest(run.stage(r, "publish")).rows_out for r in range(3)]
    assert [s["synthetic"] for s in shares] == [0, published[1], published[1] + published[2]]


def test_published_datasets_load_without_held_out(finished: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    run, _ = finished
    held_out = {row.payload["question"] for row in run.rows(run.tasks("held_out"))}
    seen: set[str] = set()
    for round_ in range(3):
        folder = run.dataset("sft", round_)
        dataset = load_from_disk(folder)["train"]
        assert load_dataset(folder, split="train", cache_dir=str(tmp_path))["row_id"] == dataset["row_id"]
        assert not held_out & {m[-1]["content"] for m in dataset["prompt"]}
        assert not seen & set(dataset["row_id"]), "row ids are unique over all rounds"
        seen |= set(dataset["row_id"])


def test_no_prompt_contains_answer(finished: tuple[RunDir, Recipe]) -> None:
    run, _ = finished
    answers = {row.id: row.payload["answer"] for row in run.rows(run.tasks("train"))}
    records = list(request_log.records(f"{run.stage(1, 'generate')}/requests"))
    assert len(records) == 40
    for record in records:
        text = " ".join(m["content"] for m in record["messages"])
        question = next(
            row.payload["question"] for row in run.rows(run.tasks("train")) if row.id == record["row"]
        )
        assert question in text and answers[record["row"]] not in text.replace(question, "").split()


def test_rerun_does_nothing(finished: tuple[RunDir, Recipe]) -> None:
    run, recipe = finished
    before = {p: p.stat().st_mtime_ns for p in Path(run.root).rglob("manifest.json")}
    logs = {p: p.stat().st_size for p in Path(run.root).rglob("*.jsonl")}
    iterate(run, recipe)
    assert {p: p.stat().st_mtime_ns for p in Path(run.root).rglob("manifest.json")} == before
    assert {p: p.stat().st_size for p in Path(run.root).rglob("*.jsonl")} == logs


def test_changed_recipe_refused(finished: tuple[RunDir, Recipe]) -> None:
    run, recipe = finished
    with pytest.raises(StaleError, match="train.learning_rate"):
        run.freeze(
            recipe.model_copy(update={"train": recipe.train.model_copy(update={"learning_rate": 1e-5})})
        )


def test_rounds_table_complete(finished: tuple[RunDir, Recipe]) -> None:
    facts = rounds_table(finished[0])
    assert [f["round"] for f in facts] == ["base", 0, 1, 2]
    assert all(
        f["n"] == 30 and 0 <= f["greedy"]["low"] <= f["greedy"]["mean"] <= f["greedy"]["high"] <= 1
        for f in facts
    )
    assert all({"pass@1", "pass@4", "maj@4"} <= f.keys() for f in facts)
    assert facts[2]["against_previous"]["round"] == 0 and facts[2]["generated_tokens"] > 0
    report = Path(finished[0].path("report.html")).read_text()
    assert "all 2 rounds finished" in report and f"{facts[3]['greedy']['mean']:.1%}" in report


def test_branch_shares_unaffected_stages(
    finished: tuple[RunDir, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted branch resumes; its own round is trained by a Ray Train worker, as in any run."""
    run, recipe = finished
    other = RunDir(tmp_path / "replace")
    changed = recipe.model_copy(
        update={
            "accumulate": recipe.accumulate.model_copy(update={"policy": "replace", "keep_real": False}),
            "rounds": 1,
        }
    )
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(RunDir, "freeze", Mock(side_effect=KeyboardInterrupt))
        branch(run, other, changed, 0)
    branch(run, other, changed, 0)
    monkeypatch.setattr("pipeline.training.launch.TorchTrainer", TorchTrainer)
    iterate(other, changed)
    assert other.manifest(other.stage(1, "generate")) == run.manifest(run.stage(1, "generate"))
    train = json.loads(Path(other.stage(1, "train"), "train.json").read_text())
    assert (
        train["shares"]["real"] == 0
        and train["shares"]["synthetic"] == run.manifest(run.stage(1, "publish")).rows_out
    )
    facts = compare([other])
    assert facts[0]["arm"] == "direct, replace, without real data" and facts[0]["rounds"] == 1
    with pytest.raises(SelfloopError, match="there is a run here already"):
        branch(run, other, changed, 0)


@pytest.mark.parametrize(
    ("changed", "shared"),
    [
        (
            {"filters": {"drop_truncated": False}},
            ["generate", "critique"],
        ),  # as between two arms of a method
        ({"sampling": {"temperature": 0.5}}, []),
        ({"questions_per_round": 20}, []),
        ({"new_questions": True}, []),
        ({"engine": {"answers": "hash"}}, []),
        ({"engine": {"latency": 0.5}}, [*STAGES, "publish"]),
        ({"method": {"name": "direct", "samples": 3}}, []),
        ({"accumulate": {"policy": "replace"}}, [*STAGES, "publish"]),
        ({"method": {"name": "direct", "keep_per_question": 1}}, [*STAGES]),  # applied when publishing
    ],
)
def test_branch_shares_next_round_stages(
    finished: tuple[RunDir, Recipe], tmp_path: Path, changed: dict[str, Any], shared: list[str]
) -> None:
    """Of the round after the branch point, the stages that the changed settings do not affect are shared."""
    run, recipe = finished
    other, given = RunDir(tmp_path / "other"), recipe.model_dump(mode="json")
    branch(
        run,
        other,
        build_recipe(
            {**given, **{k: {**given[k], **v} if isinstance(v, dict) else v for k, v in changed.items()}}
        ),
        0,
    )
    there = [name for name in (*STAGES, "publish") if other.manifest(other.stage(1, name)) is not None]
    assert other.branched_from() == 0 and run.branched_from() is None
    assert there == shared and Path(other.dataset("sft", 1)).exists() == ("publish" in shared)
    assert other.manifest(other.stage(0, "publish")) is not None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tasks": {"limit": 40}}, "tasks.limit: None -> 40"),
        ({"held_out": {"count": 10}}, "held_out.count: 30 -> 10"),
        ({"demonstrations": None}, "demonstrations"),
        ({"model": {"base": "smollm2-135m-instruct"}}, "model.base"),
        ({"evaluate": {"max_tokens": 3}}, "evaluate.max_tokens: None -> 3"),
        ({"verifier": "task_scorer"}, "verifier: 'ground_truth' -> 'task_scorer'"),
    ],
)
def test_branch_refuses_settings_of_inherited_work(
    finished: tuple[RunDir, Recipe], tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    run, recipe = finished
    given = recipe.model_dump(mode="json")
    other = build_recipe(
        {**given, **{k: {**given[k], **v} if isinstance(v, dict) else v for k, v in changed.items()}}
    )
    with pytest.raises(SelfloopError, match=f"takes over tasks, models and evaluations(.|\n)*{said}"):
        branch(run, RunDir(tmp_path / "other"), other, 0)
    assert not (tmp_path / "other").exists()


def test_branch_of_branch_republishes(finished: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    """Only what was published under its own recipe is shared."""
    run, recipe = finished
    given = recipe.model_dump(mode="json")
    changed = build_recipe({**given, "method": {**given["method"], "keep_per_question": 1}})
    one, two = RunDir(tmp_path / "one"), RunDir(tmp_path / "two")
    branch(run, one, changed, 1)
    branch(one, two, changed, 0)  # one's round 1 was published by run, with another cap
    assert two.manifest(two.stage(1, "verify")) is not None and two.manifest(two.stage(1, "publish")) is None
    asyncio.run(Loop(two, changed).publish(1))


def test_removed_model_needed_only_for_evaluation(finished: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    run, recipe = finished
    other = RunDir(tmp_path / "other")
    branch(run, other, recipe, 2)
    for round_ in (0, 1):
        shutil.rmtree(other.model(round_))
    (tmp_path / "other" / "branch.json").unlink()  # now a run like any other, whose rounds are all checked

    def made() -> dict[Path, int]:
        return {
            p: p.stat().st_mtime_ns
            for name in ("manifest.json", "train.json")
            for p in Path(other.root).rglob(name)
        }

    before = made()
    iterate(other, recipe)
    assert made() == before and not Path(other.model(0)).exists()
    shutil.rmtree(other.stage(1, "evaluate"))
    with pytest.raises(
        StageError, match="models/round-001 was removed, and the evaluation of round 1 needs it"
    ):
        iterate(other, recipe)


def test_under_replace_the_same_answers_are_published_in_every_round(
    finished: tuple[RunDir, Recipe], tmp_path: Path
) -> None:
    """Round 2 repeats what round 1 verified.

    It is a duplicate where both are trained on, and none under replace.
    """
    run, recipe = finished
    published = {}
    for policy in ("all", "replace", "window:2"):
        other = RunDir(tmp_path / policy.replace(":", "-"))
        changed = recipe.model_copy(
            update={"accumulate": recipe.accumulate.model_copy(update={"policy": policy})}
        )
        branch(run, other, changed, 1)
        for stage in (*STAGES, "publish"):
            shutil.rmtree(other.stage(2, stage), ignore_errors=True)
        for dataset in Path(other.root, "datasets").glob("*/round-002"):
            shutil.rmtree(dataset)
        shutil.copytree(other.stage(1, "verify"), other.stage(2, "verify"))
        path = Path(other.stage(2, "verify"), "manifest.json")
        path.write_text(path.read_text().replace("rounds/001/", "rounds/002/"))
        published[policy] = asyncio.run(Loop(other, changed).publish(2))
    duplicates = {policy: m.steps[0].dropped.get("duplicate", 0) for policy, m in published.items()}
    first = run.manifest(run.stage(1, "publish"))
    assert duplicates["all"] >= first.rows_out > 0
    assert duplicates["replace"] == duplicates["window:2"] == first.steps[0].dropped.get("duplicate", 0)
    assert published["replace"].rows_out == first.rows_out
    data = training._mixture(Loop(other, changed).round(2), SFT)
    assert data.distinct and len(load_mixture(data, 0)) == 8 + first.rows_out


def test_method_arm_continues_from_shared_rounds(finished: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    """Publishing depends on the method's settings; the shared rounds keep theirs."""
    run, recipe = finished
    other, given = RunDir(tmp_path / "arm"), recipe.model_dump(mode="json")
    changed = build_recipe({**given, "rounds": 2, "method": {**given["method"], "keep_per_question": 1}})
    branch(run, other, changed, 1)
    iterate(other, changed)
    assert [
        other.manifest(other.stage(r, "publish")) == run.manifest(run.stage(r, "publish")) for r in (0, 1, 2)
    ] == [True, True, False]
    kept = [row.payload["task_id"] for row in other.rows(other.stage(2, "publish"))]
    assert len(kept) == len(set(kept)) and Path(other.evaluation(2)).exists()


def test_changed_rows_are_republished(finished: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    run, recipe = finished
    other = RunDir(tmp_path / "one")
    changed = recipe.model_copy(
        update={"filters": recipe.filters.model_copy(update={"drop_duplicates": False})}
    )
    branch(run, other, recipe, 0)
    with pytest.raises(StaleError, match="drop_duplicates"):
        asyncio.run(Loop(other, changed).publish(1))
    shutil.rmtree(other.stage(1, "publish"))
    manifest = asyncio.run(Loop(other, changed).publish(1))
    published = load_from_disk(other.dataset("sft", 1))["train"]
    assert len(published) == manifest.rows_out > len(load_from_disk(run.dataset("sft", 1))["train"])
    written = Path(other.dataset("sft", 1), "manifest.json").stat().st_mtime_ns
    asyncio.run(Loop(other, changed).publish(1))
    assert Path(other.dataset("sft", 1), "manifest.json").stat().st_mtime_ns == written


def test_separate_evaluation_engines_swap(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sets of engines may compete for the same GPU, or for the memory of one laptop."""
    loop = Loop(
        RunDir(tmp_path / "run"),
        recipe_in(tmp_path, tiny_model, evaluate={"engine": {"kind": "scripted", "answers": "hash"}}),
    )
    freed: list[EnginePool] = []

    async def free(pool: EnginePool) -> None:
        freed.append(pool)

    monkeypatch.setattr(EnginePool, "free", free)
    asyncio.run(loop._use(loop.engines, loop.base))
    asyncio.run(loop._use(loop.evaluators, loop.base))
    asyncio.run(loop._use(EnginePool(loop.recipe, loop.recipe.engine), loop.base))  # as for an annotator
    assert freed == [loop.evaluators, loop.engines] and loop.engines is not loop.evaluators
    one = Loop(RunDir(tmp_path / "one"), recipe_in(tmp_path, tiny_model))
    asyncio.run(one._use(one.evaluators, one.base))
    assert len(freed) == 2, "a shared set of engines stays up"


class AnyName(DirectOptions):
    """Options that accept module:Class as the method's name."""

    name: str


class Lacking(Direct):
    """A user's method that lacks a stage."""

    Options = AnyName

    def stages(self) -> dict[str, Any]:
        return {name: stage for name, stage in super().stages().items() if name != "verify"}


class Elsewhere(Direct):
    """A user's method with a dataset that nothing trains on."""

    Options = AnyName
    dataset = "poems"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Lacking", "returns no stage for verify"),
        ("Elsewhere", "its dataset is 'poems'; expected one of cpt, dpo"),
    ],
)
def test_incomplete_user_method_refused_early(tmp_path: Path, tiny_model: Path, name: str, said: str) -> None:
    recipe = recipe_in(tmp_path, tiny_model, method={"name": f"tests.stages.rounds.test_loop:{name}"})
    with pytest.raises(ConfigError, match=said):
        Loop(RunDir(tmp_path / "run"), recipe)


def test_round_without_model_says_what_to_do(tmp_path: Path, tiny_model: Path, in_process: None) -> None:
    loop = Loop(RunDir(tmp_path / "run"), recipe_in(tmp_path, tiny_model, engine={"kind": "vllm"}))
    with pytest.raises(SelfloopError, match="train --round 0"):
        loop.generator(1)
    with pytest.raises(SelfloopError, match="Generation starts in round 1"):
        asyncio.run(loop.stage(0, "generate"))
