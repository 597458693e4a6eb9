"""The loop with labeled answers: published, trained on after the examples, inspected and traced."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from pipeline.errors import ConfigError
from pipeline.lineage import trace
from pipeline.methods import load_method
from pipeline.overview import overview
from pipeline.rundir import RunDir
from stages.rounds import training
from tests.conftest import tiny_recipe
from tests.jobs.conftest import selfloop
from tests.stages.rounds.test_loop import iterate, recipe_in
from tests.training.conftest import tiny_model

__all__ = ["selfloop", "tiny_model"]
pytestmark = [pytest.mark.train, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, in_process: None, tiny_model: Path) -> RunDir:
    """A run of one round of sft_then_kto, from the start to the table."""
    folder = tmp_path_factory.mktemp("labels")
    kto = {"max_steps": 2, "batch_size": 4, "learning_rate": 1e-3}
    train = {"max_steps": 1, "batch_size": 2, "max_length": 256, "kind": "sft_then_kto", "kto": kto}
    evaluate = {"bootstrap": 100, "base_model": False}
    run = RunDir(folder / "run")
    iterate(run, recipe_in(folder, tiny_model, rounds=1, train=train, evaluate=evaluate))
    return run


def test_every_judged_answer_is_labeled_or_dropped_with_its_reason(finished: RunDir) -> None:
    verify, labels = (finished.manifest(finished.stage(1, name)) for name in ("verify", "labels"))
    labels.check()
    assert labels.rows_in == verify.rows_out + verify.rows_dropped["wrong_answer"]
    rows = load_from_disk(finished.dataset("kto", 1))["train"]
    assert len(rows) == labels.rows_out == labels.rows_in - sum(labels.dropped_in_all().values())
    for row in rows:
        a, b = (int(w.strip("?")) for w in row["prompt"][-1]["content"].split() if w.strip("?").isdigit())
        right = row["completion"][0]["content"].endswith(f"Answer: {a + b}")
        assert row["label"] == right == json.loads(row["src_verdict"])["correct"]
        assert row["src_kind"] == "synthetic" and row["src_model"] and len(row["parent_ids"]) == 1
    manifest = json.loads(Path(finished.dataset("kto", 1), "manifest.json").read_text())
    assert manifest["right"] == sum(rows["label"]) > 0 and manifest["wrong"] > 0
    card = Path(finished.dataset("kto", 1), "README.md").read_text()
    assert f"Right answers: {manifest['right']}; wrong answers: {manifest['wrong']}" in card
    assert (
        "`prompt`, `completion` and `label` are what a trainer reads" in card and "trl kto --config" in card
    )


def test_the_second_training_continues_the_first(finished: RunDir) -> None:
    first, second = (
        json.loads(Path(finished.stage(1, name), "train.json").read_text()) for name in ("train_sft", "train")
    )
    assert (first["kind"], second["kind"]) == ("sft", "kto")
    assert second["fingerprint"]["model"]["revision"] == first["revision"] != second["revision"]
    counts = json.loads(Path(finished.dataset("kto", 1), "manifest.json").read_text())
    weights = [second["hyperparameters"][f"{side}_weight"] for side in ("desirable", "undesirable")]
    assert weights[0] * counts["right"] == pytest.approx(weights[1] * counts["wrong"])


def test_inspect_and_trace_show_labels(finished: RunDir, selfloop: Any) -> None:
    [_, round_] = overview(finished)["rounds"]
    assert list(round_["stages"])[-3:] == ["publish", "labels", "evaluate"]
    shown = selfloop("inspect", "--run", finished.root, "--stage", "labels", "--round", "1")
    count = finished.manifest(finished.stage(1, "labels")).rows_out
    assert shown.status == 0 and f"({count} answers)" in shown.text, shown.text
    assert "reward margin" in selfloop("inspect", "--run", finished.root).text
    [row, *_] = finished.rows(finished.stage(1, "labels"))
    [link] = [link for link in trace(finished, row.id) if link.id == row.id]
    [published] = link.published
    assert published.folder == finished.dataset("kto", 1) and published.label == row.payload["label"]
    said = "right" if row.payload["label"] else "wrong"
    assert f"labeled {said}" in selfloop("trace", "--run", finished.root, row.id).text


def test_methods_with_pairs_of_their_own_have_no_labels() -> None:
    settings = tiny_recipe(rounds=1, method={"name": "self"}, train={"kind": "kto"})
    with pytest.raises(ConfigError, match="method self makes pairs in its own way, and kto takes answers"):
        training.check(settings, load_method(settings), lambda: None)  # type: ignore[arg-type,return-value]
