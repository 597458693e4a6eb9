"""The loop with preference pairs.

They are built in each round, published, trained on after the examples, inspected and traced.
"""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset, load_from_disk
from ray.train.torch import TorchTrainer

from pipeline.branch import branch
from pipeline.config import Recipe
from pipeline.engines.base import Request
from pipeline.errors import StageError, StaleError
from pipeline.lineage import trace
from pipeline.models import folder_revision
from pipeline.overview import overview
from pipeline.rundir import RunDir
from stages.reports.comparison import compare
from stages.reports.table import round_figures
from stages.rounds.judged import WRONG
from stages.rounds.loop import Loop
from stages.rounds.publishing import publish_pairs
from stages.tasks.freeze import freeze
from tests.jobs.conftest import selfloop
from tests.scripted_answers import sums
from tests.stages.rounds.test_loop import iterate, recipe_in
from tests.training.conftest import tiny_model

__all__ = ["selfloop", "tiny_model"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(400)]

DPO = {"max_steps": 2, "batch_size": 2, "learning_rate": 1e-3, "reference": "base"}


def always_right(request: Request, index: int) -> str:
    """Answer correctly, each sample in different words."""
    text = request.messages[-1]["content"]
    a, b = (int(word.strip("?")) for word in text.split() if word.strip("?").isdigit())
    return f"{'so ' * index}\nAnswer: {a + b}"


def settings(kind: str, **changes: Any) -> dict[str, Any]:
    train = {
        "max_steps": 1,
        "batch_size": 2,
        "max_length": 256,
        "kind": kind,
        "cpus_per_worker": 1,
        "dpo": DPO,
    }
    return {"train": train, "evaluate": {"bootstrap": 100, "base_model": False}, **changes}


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, in_process: None, tiny_model: Path
) -> tuple[RunDir, Recipe]:
    """A run of two rounds of sft_then_dpo, from the start to the table."""
    folder = tmp_path_factory.mktemp("pairs")
    run, recipe = RunDir(folder / "run"), recipe_in(folder, tiny_model, **settings("sft_then_dpo"))
    iterate(run, recipe)
    return run, recipe


def result(run: RunDir, round_: int, name: str = "train") -> dict[str, Any]:
    return json.loads(Path(run.stage(round_, name), "train.json").read_text())


def test_every_answer_paired_or_dropped_with_reason(finished: tuple[RunDir, Recipe]) -> None:
    run, _ = finished
    for round_ in (1, 2):
        verify, pairs = (run.manifest(run.stage(round_, s)) for s in ("verify", "pairs"))
        pairs.check()
        wrong = {r["id"] for r in run.rejects(run.stage(round_, "verify"), "dropped") if r["reason"] in WRONG}
        right = {row.id for row in run.rows(run.stage(round_, "verify"))}
        assert (
            pairs.rows_in == len(right) + len(wrong) == verify.rows_out + verify.rows_dropped["wrong_answer"]
        )
        assert pairs.steps[0].rows_in == pairs.rows_in and pairs.steps[1].rows_in == pairs.steps[0].rows_out
        dropped = {r["id"] for r in run.rejects(run.stage(round_, "pairs"), "dropped")}
        made = list(run.rows(run.stage(round_, "pairs")))
        used = {i for row in made for i in row.parents}
        assert len(made) == pairs.rows_out > 0 and not used & dropped and used | dropped == right | wrong
        assert all(row.parents[0] in right and row.parents[1] in wrong for row in made)


def test_published_pairs_load_without_held_out(finished: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    run, _ = finished
    held_out = {row.payload["question"] for row in run.rows(run.tasks("held_out"))}
    assert not Path(run.dataset("dpo", 0)).exists()
    contents: list[tuple[str, str, str]] = []
    for round_ in (1, 2):
        folder = run.dataset("dpo", round_)
        dataset = load_from_disk(folder)["train"]
        assert load_dataset(folder, split="train", cache_dir=str(tmp_path))["row_id"] == dataset["row_id"]
        for row in dataset:
            question = row["prompt"][-1]["content"]
            a, b = (int(word.strip("?")) for word in question.split() if word.strip("?").isdigit())
            assert question not in held_out and row["src_kind"] == "synthetic" and row["src_round"] == round_
            assert row["chosen"][0]["content"].endswith(f"Answer: {a + b}") and not row["rejected"][0][
                "content"
            ].endswith(f"Answer: {a + b}")
            assert (
                json.loads(row["src_chosen_verdict"])["correct"]
                and not json.loads(row["src_rejected_verdict"])["correct"]
            )
            assert row["src_chosen_model"] and len(row["parent_ids"]) == 2
            contents.append((question, row["chosen"][0]["content"], row["rejected"][0]["content"]))
    assert len(set(contents)) == len(contents), "no pair is published twice, over all rounds"


def test_two_trainings_make_one_model(finished: tuple[RunDir, Recipe]) -> None:
    run, _ = finished
    assert result(run, 0)["kind"] == "sft" and not Path(run.stage(0, "train_sft")).exists()
    counts = [run.manifest(run.stage(r, "pairs")).rows_out for r in (1, 2)]
    for round_ in (1, 2):
        first, second = result(run, round_, "train_sft"), result(run, round_)
        assert (first["kind"], first["model"]) == ("sft", run.model(round_, "sft"))
        assert (second["kind"], second["model"]) == ("dpo", run.model(round_))
        assert (
            second["fingerprint"]["model"]["revision"]
            == first["revision"]
            == folder_revision(Path(run.model(round_, "sft")))
        )
        assert second["fingerprint"]["dpo"]["reference"] == first["fingerprint"]["model"]["revision"], (
            "reference: base"
        )
        assert second["shares"]["synthetic"] == sum(counts[:round_]), "pairs accumulate"
        assert first["shares"]["real"] == 8 and second["revision"] != first["revision"]
        assert "trl dpo" in Path(run.stage(round_, "train"), "trainer.yaml").read_text()
    assert round_figures(run, 2)["train"]["kind"] == "dpo"


def test_rerun_does_nothing(finished: tuple[RunDir, Recipe]) -> None:
    run, recipe = finished
    watched = [
        p
        for pattern in ("manifest.json", "train.json", "*.safetensors")
        for p in Path(run.root).rglob(pattern)
    ]
    before = {p: p.stat().st_mtime_ns for p in watched}
    iterate(run, recipe)
    assert {p: p.stat().st_mtime_ns for p in watched} == before


def test_resume_between_trainings(
    finished: tuple[RunDir, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the second training is repeated, here in a Ray Train worker, and ends in the same weights."""
    run, recipe = finished
    before = result(run, 2)
    again = RunDir(shutil.copytree(run.root, tmp_path / "run"))
    for lost in (again.stage(2, "train"), again.model(2)):
        shutil.rmtree(lost)
    first = Path(again.stage(2, "train_sft"), "train.json").stat().st_mtime_ns
    monkeypatch.setattr("pipeline.training.launch.TorchTrainer", TorchTrainer)
    asyncio.run(Loop(again, recipe).train(2))
    assert Path(again.stage(2, "train_sft"), "train.json").stat().st_mtime_ns == first
    assert result(again, 2)["revision"] == before["revision"] and result(again, 2)["model"] == again.model(2)


def test_inspect_shows_pairs_and_both_trainings(finished: tuple[RunDir, Recipe], selfloop: Any) -> None:
    run, _ = finished
    facts = overview(run)
    assert [list(r["stages"]) for r in facts["rounds"]] == [
        ["publish", "evaluate"],
        *[["generate", "critique", "filter", "verify", "publish", "pairs", "evaluate"]] * 2,
    ]
    assert [r.get("train_sft", {}).get("state") for r in facts["rounds"]] == [None, "done", "done"]
    shown = selfloop("inspect", "--run", run.root)
    assert (
        shown.status == 0
        and "train_sft" in shown.text
        and run.dataset("dpo", 1) in shown.text
        and "reward margin" in shown.text
    )
    count = run.manifest(run.stage(1, "pairs")).rows_out
    one = selfloop("inspect", "--run", run.root, "--stage", "pairs", "--round", "1")
    assert one.status == 0, one.text
    for text in (
        f"{count} rows out",
        "step pair_up",
        f"({count} pairs)",
        "chosen",
        "rejected",
        "no_counterpart",
    ):
        assert text in one.text, text
    for name in ("train", "train_sft"):
        assert "final_loss" in selfloop("inspect", "--run", run.root, "--stage", name, "--round", "1").text
    assert (
        "round 0 has no pairs stage"
        in selfloop("inspect", "--run", run.root, "--stage", "pairs", "--round", "0").text
    )


def test_trace_pair_to_answers_and_dataset(finished: tuple[RunDir, Recipe], selfloop: Any) -> None:
    run, _ = finished
    [pair, *_] = run.rows(run.stage(1, "pairs"))
    links = {link.id: link for link in trace(run, pair.id)}
    right, wrong = (links[i] for i in pair.parents)
    assert (right.stage, wrong.stage) == ("verify", "filter")
    assert {f.stage: f.outcome for f in right.fates}["pairs"] == "kept"
    assert [(f.stage, f.outcome, f.reason) for f in wrong.fates] == [
        ("verify", "dropped", "wrong_answer"),
        ("pairs", "kept", ""),
    ]
    assert pair.id in wrong.fates[-1].children and pair.id in right.fates[-1].children
    tasks = [link for link in links.values() if link.round is None]
    assert [t.id for t in tasks] == [pair.payload["task_id"]] and tasks[0].fates[0].requests
    [published] = links[pair.id].published
    assert published.folder == run.dataset("dpo", 1) and published.chosen == pair.payload["chosen"]
    below = [link.id for link in trace(run, wrong.id)]
    assert pair.id in below and below.index(wrong.id) < below.index(pair.id)
    shown = selfloop("trace", "--run", run.root, pair.id)
    assert shown.status == 0 and "rejected:" in shown.text and f"published as {pair.id}" in shown.text
    [dropped, *_] = (
        r for r in run.rejects(run.stage(1, "pairs"), "dropped") if r["reason"] == "no_counterpart"
    )
    assert "dropped as no_counterpart" in selfloop("trace", "--run", run.root, dropped["id"]).text


def test_branch_shares_pairs_and_intermediate_model(finished: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    run, recipe = finished
    other = RunDir(tmp_path / "other")
    changed = recipe.model_copy(
        update={"accumulate": recipe.accumulate.model_copy(update={"policy": "subsample:9"})}
    )
    branch(run, other, changed, 1)
    assert other.manifest(other.stage(2, "pairs")) == run.manifest(run.stage(2, "pairs"))
    assert (
        Path(other.dataset("dpo", 2), "manifest.json").exists()
        and Path(other.model(1, "sft"), "config.json").exists()
    )
    assert compare([run])[0]["arm"] == "direct, all, sft_then_dpo"


def test_changed_preferences_refused(finished: tuple[RunDir, Recipe]) -> None:
    run, recipe = finished
    changed = recipe.model_copy(
        update={"preferences": recipe.preferences.model_copy(update={"pairs_per_question": 1})}
    )
    with pytest.raises(StaleError, match=r"preferences\.pairs_per_question"):
        run.freeze(changed)
    loop = Loop(run, changed)
    with pytest.raises(StaleError, match=r"config\.preferences\.pairs_per_question: 2 -> 1"):
        asyncio.run(publish_pairs(loop.round(1)))


def test_round_without_pairs(
    tmp_path: Path, in_process: None, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """When all answers are right, `dpo` stops with a remedy.

    `sft_then_dpo` warns and trains on the answers alone.
    """
    engine = {"kind": "scripted", "answers": "tests.stages.rounds.test_preference_loop:always_right"}
    common = {"engine": engine, "demonstrations": None, "rounds": 1, "questions_per_round": 5}
    for kind in ("dpo", "sft_then_dpo"):
        run = RunDir(tmp_path / kind)
        recipe = run.freeze(recipe_in(tmp_path, tiny_model, **settings(kind, **common)))
        loop = Loop(run, recipe)
        freeze(run, recipe)
        for name in ("generate", "critique", "filter", "verify"):
            asyncio.run(loop.stage(1, name))
        asyncio.run(loop.publish(1))
        assert run.manifest(run.stage(1, "pairs")).steps[-1].dropped == {"no_counterpart": 20}
        if kind == "dpo":
            with pytest.raises(
                StageError,
                match=r"round 1 has no preference pair to train on .*"
                r"selfloop branch .* --round 0 --set train.kind=sft_then_dpo",
            ):
                asyncio.run(loop.train(1))
            continue
        asyncio.run(loop.train(1))
        assert "warning: round 1 has no preference pair" in " ".join(capsys.readouterr().err.split())
        assert result(run, 1)["kind"] == "sft" and not Path(run.stage(1, "train_sft")).exists()


def test_scripted_answers_are_mixed() -> None:
    """The tests above need right and wrong answers."""
    request = Request([{"role": "user", "content": "What is 3 + 4?"}], row="row")
    said = {sums(request, i).endswith("Answer: 7") for i in range(20)}
    assert said == {True, False}
