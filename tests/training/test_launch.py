"""Whole trainings of the tiny model inside Ray Train.

What comes out, and that the same call finds it again.
"""

import dataclasses
from pathlib import Path

import pytest

from pipeline.config import Lora, Train
from pipeline.errors import ConfigError, StageError, StaleError
from pipeline.models import ModelRef, folder_revision
from pipeline.publish.accumulate import Mixture, Part
from pipeline.publish.dataset import publish
from pipeline.publish.kinds import measure
from pipeline.rundir import differences
from pipeline.training import launch
from pipeline.training.arguments import most_tokens, trainer_arguments
from pipeline.training.launch import train
from pipeline.training.progress import read_progress
from pipeline.training.spec import fingerprint
from tests.in_process import training_in_process
from tests.publish.conftest import FACTS, make_rows


def test_trains_records_and_finds_itself_done(local_ray, make_spec, tiny_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec, seen = make_spec(learning_rate=1e-2), []
    work = Path(spec.work)
    result = train(spec, seen.append)
    assert (result.examples, result.left_out, result.steps) == (36, 0, 9)
    assert result.shares == {"real": 6, "synthetic": 30, "rounds": {"0": 6, "1": 18, "2": 12}}
    assert [line["step"] for line in seen] == list(range(1, 10)) and seen[-1]["loss"] < seen[0]["loss"]
    assert seen == read_progress(work / "progress.jsonl") and result.final_loss == seen[-1]["loss"]
    assert (work / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (
        not (work / "checkpoints").exists() and not (work / "dataset").exists()
    )  # the published folders served as they were

    model, tokenizer = AutoModelForCausalLM.from_pretrained(spec.out), AutoTokenizer.from_pretrained(spec.out)
    assert model.dtype == torch.bfloat16 and model.config.use_cache
    base, own = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    assert tokenizer.chat_template == own.chat_template
    # No token is added for padding, and no embedding.
    assert (
        tokenizer.get_vocab() == own.get_vocab()
        and model.get_input_embeddings().weight.shape == base.get_input_embeddings().weight.shape
    )
    assert result.revision == folder_revision(Path(spec.out)) != spec.model.revision

    assert train(spec) == result  # nothing is done again
    with pytest.raises(StaleError, match=r"train\.learning_rate: was 0\.01, is 0\.02"):
        train(dataclasses.replace(spec, train=spec.train.model_copy(update={"learning_rate": 2e-2})))


def test_lora_on_a_draw_without_the_too_long_ones(local_ray, make_spec, tiny_model, tokenizer, tmp_path):
    """The adapter is merged, and the drawn mixture becomes a dataset of its own.

    Long examples are counted and not cut.
    """
    import torch
    from transformers import AutoModelForCausalLM

    rows = make_rows(10) + [{**row, "row_id": f"long-{i}"} for i, row in enumerate(make_rows(4, words=120))]
    publish(measure(rows, tokenizer), tmp_path / "d", FACTS, 0)
    spec = make_spec(lora=Lora(r=4, alpha=8), learning_rate=1e-2, max_steps=2)
    spec = dataclasses.replace(spec, mixture=Mixture((Part(str(tmp_path / "d"), 1),), subsample=13))
    with training_in_process():
        result = train(spec)
    assert result.left_out >= 3 and result.examples + result.left_out == 13
    assert (Path(spec.work) / "dataset" / "README.md").exists()
    base, tuned = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).state_dict()
        for path in (tiny_model, spec.out)
    )
    assert base.keys() == tuned.keys() and not list(Path(spec.out).glob("adapter*"))
    changed = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert changed and all("_proj" in name for name in changed)


def test_a_failure_in_a_worker_is_told_in_words(local_ray, make_spec):
    spec = make_spec(extra={"optim": "nonsense"})
    with pytest.raises(
        StageError,
        match=r"(?s)training failed in worker 0: ValueError.*nonsense.*The end of .*worker\.0\.log",
    ):
        train(spec)


def test_what_cannot_work_is_said_before_anything_starts(local_ray, make_spec, rounds):
    with pytest.raises(ConfigError, match="evenly among 3 workers"):
        trainer_arguments(make_spec(workers=3), 10, False, False)
    with pytest.raises(ConfigError, match="does not divide"):
        trainer_arguments(make_spec(micro_batch_size=3), 10, False, False)
    with pytest.raises(ConfigError, match="Did you mean 'adam_beta1'"):
        trainer_arguments(make_spec(extra={"adam_beta_1": 0.8}), 10, False, False)
    with pytest.raises(ConfigError, match="change it there"):
        trainer_arguments(make_spec(extra={"max_length": 10}), 10, False, False)
    with pytest.raises(ConfigError, match="do not fit into Ray's cluster"):
        train(make_spec(workers=10_000))
    with pytest.raises(StageError, match=r"longer than train\.max_length"):
        train(dataclasses.replace(make_spec(max_length=8), work=make_spec().work + "-8"))


def test_a_forward_pass_has_no_more_tokens_than_pay(make_spec):
    def sizes(use_gpu=False, **settings):
        made = trainer_arguments(make_spec(**{"batch_size": 8, **settings}), 10, use_gpu, False)
        return made["per_device_train_batch_size"], made["gradient_accumulation_steps"]

    assert (
        sizes(max_length=128) == (8, 1)
        and sizes(max_length=512) == (4, 2)
        and sizes(max_length=1408) == (1, 8)
    )
    assert sizes(max_length=600, batch_size=6) == (3, 2), (
        "a divisor of the batch: 2,048 tokens have room for three"
    )
    assert sizes(max_length=4096) == (1, 8) and sizes(max_length=4096, micro_batch_size=4) == (4, 2), (
        "what is asked for is done"
    )
    assert sizes(use_gpu=True, max_length=2048) == (8, 1) and sizes(use_gpu=True, max_length=4096) == (4, 2)
    assert sizes(use_gpu=True, max_length=65_536) == (1, 8)
    assert sizes(use_gpu=True, max_length=65_536, micro_batch_size=2) == (2, 4)
    assert (
        most_tokens(Train(max_length=512)) == 2048 and most_tokens(Train(max_length=4096, kind="dpo")) == 8192
    )
    assert most_tokens(Train(max_length=1000, micro_batch_size=5)) == 5000


def test_a_fingerprint_names_what_differs(make_spec):
    one = fingerprint(make_spec())
    same = {"workers": 2, "micro_batch_size": 1, "save_steps": 9, "gradient_checkpointing": True}
    assert differences(one, fingerprint(make_spec(**same))) == [] and not same.keys() & one["train"].keys()
    other = dataclasses.replace(make_spec("replace", seed=4), model=ModelRef("elsewhere", "tiny", "r2"))
    changed = {key for key, _, _ in differences(one, fingerprint(other))}
    assert changed == {"model.revision", "data.round-001", "seed"}


def test_gpus_that_are_held_are_said(monkeypatch, caplog):
    """Ray would wait without a word."""
    free = iter([0.0, 1.0, 2.0])
    monkeypatch.setattr(launch.time, "sleep", lambda _: None)
    monkeypatch.setattr(launch.ray, "available_resources", lambda: {"GPU": next(free)})
    launch._wait_for_gpus(2)
    assert not caplog.records, "they were let go of in time"
    monkeypatch.setattr(launch.ray, "available_resources", dict)
    launch._wait_for_gpus(2)
    assert "waits for 2 GPUs, and 0 are free" in caplog.text and "serve --status" in caplog.text


def test_a_work_folder_that_is_half_removed_is_not_taken_for_a_new_one(make_spec):
    """Its checkpoints are of other data: a new training must not resume from them."""
    spec = make_spec()
    Path(spec.work, "checkpoints").mkdir(parents=True)
    with pytest.raises(
        StaleError, match="half removed: its spec.json is gone, but checkpoints is still there"
    ):
        train(spec)
