"""What TRL makes of published data.

The loss mask token by token, nothing cut, and batches that pad little.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trl.trainer import utils

from pipeline.errors import StageError
from pipeline.publish.accumulate import Mixture, Part
from pipeline.publish.dataset import column, publish
from pipeline.publish.kinds import SFT, measure
from pipeline.training.arguments import trainer_arguments
from pipeline.training.batches import LengthGrouped, token_counts
from pipeline.training.build import build_trainer
from pipeline.training.data import prepare_data
from tests.publish.conftest import FACTS, make_rows


def config(spec: Any, folders: list[Path], **arguments: Any) -> dict[str, Any]:
    return {
        "kind": "sft",
        "model": spec.model.path,
        "trust_remote_code": False,
        "datasets": [str(folder) for folder in folders],
        "arguments": trainer_arguments(spec, 36, False, False) | arguments,
        "lora": None,
        "precision": "fp32",
        "progress": f"{spec.work}/progress.jsonl",
    }


def test_labels_are_the_completion_and_nothing_else(make_spec, rounds, tokenizer):
    """Rows with every lineage column go through the real SFTTrainer; the mask is compared token by token."""
    trainer = build_trainer(config(make_spec(), list(rounds.values())))
    prepared = trainer.train_dataset
    published = datasets.concatenate_datasets(
        [datasets.load_from_disk(str(folder))["train"] for folder in rounds.values()]
    )
    assert len(prepared) == len(published) == 36 and set(published.column_names) == set(SFT.features)
    for made, row in zip(prepared, published, strict=True):
        head = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        answer = row["completion"][0]["content"] + "<|im_end|>\n"
        head_ids, answer_ids = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in (head, answer)
        )
        assert made["input_ids"] == head_ids + answer_ids
        assert made["labels"] == [-100] * len(head_ids) + answer_ids
        assert tokenizer.eos_token_id in made["labels"]  # it learns to stop
        assert (row["tokens_prompt"], row["tokens_completion"]) == (len(head_ids), len(answer_ids))
    batch = next(iter(trainer.get_train_dataloader()))
    assert (
        set(batch) == {"input_ids", "attention_mask", "labels"}
        and (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    )


def test_logits_are_computed_where_there_is_loss_and_the_loss_is_the_same(make_spec, rounds, monkeypatch):
    trainer = build_trainer(config(make_spec(), list(rounds.values())))
    scored, kernel = [], utils._ChunkedLogProbFunction

    class Spy:
        @staticmethod
        def apply(hidden: Any, *rest: Any) -> Any:
            scored.append(len(hidden))
            return kernel.apply(hidden, *rest)

    def loss_and_gradient(batch: dict[str, Any]) -> tuple[float, Any]:
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        return loss.item(), trainer.model.get_input_embeddings().weight.grad.clone()

    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Spy)
    batch = next(iter(trainer.get_train_dataloader()))
    loss, gradient = loss_and_gradient(batch)
    monkeypatch.setattr(utils, "_use_triton", utils._use_triton.on_cpu)
    loss_of_all, gradient_of_all = loss_and_gradient(batch)
    assert (
        scored == [(batch["labels"][:, 1:] != -100).sum(), batch["labels"][:, 1:].numel()]
        and scored[0] < scored[1]
    )
    assert loss == pytest.approx(loss_of_all, rel=1e-5)
    assert np.allclose(gradient, gradient_of_all, atol=1e-6)


def test_the_trainer_refuses_to_cut(make_spec, rounds):
    with pytest.raises(StageError, match="would cut"):
        build_trainer(config(make_spec(), [rounds[2]], max_length=40))


def test_packing_keeps_every_token(make_spec, rounds):
    trainer = build_trainer(config(make_spec(packing=True), list(rounds.values())))
    folders = [datasets.load_from_disk(str(folder))["train"] for folder in rounds.values()]
    assert trainer.lengths.sum() == sum(
        column(d, "tokens_prompt").sum() + column(d, "tokens_completion").sum() for d in folders
    )
    assert trainer.lengths.max() <= 128 and len(trainer.train_dataset) < 36


def test_packed_texts_do_not_see_each_other(make_spec, rounds):
    """The log-probability of a packed text is that of the text alone.

    Neither its neighbours nor its place matter.
    """
    import torch

    packed = build_trainer(config(make_spec(packing=True), list(rounds.values())))
    batch = next(iter(packed.get_train_dataloader()))
    starts = [*(batch["position_ids"][0] == 0).nonzero().flatten().tolist(), batch["input_ids"].shape[1]]
    assert len(starts) > 4 and "attention_mask" not in batch
    model = packed.model.eval()
    with torch.no_grad():
        together = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits[0]
        for start, end in itertools.pairwise(starts):
            alone = model(input_ids=batch["input_ids"][:, start:end]).logits[0]
            assert torch.allclose(together[start:end], alone, atol=1e-5)


def test_nothing_is_written_into_published_folders(make_spec, rounds):
    before = sorted(rounds[1].rglob("*"))
    build_trainer(config(make_spec(), [rounds[1]]))
    assert sorted(rounds[1].rglob("*")) == before


def test_lengths_of_prepared_examples(tmp_path, tokenizer):
    publish(measure(make_rows(7), tokenizer), tmp_path / "d", FACTS, 0)
    data = datasets.load_from_disk(str(tmp_path / "d"))["train"]
    ids = [[0] * n for n in (3, 1, 5, 2, 2, 8, 1)]
    assert token_counts(data.add_column("input_ids", ids)).tolist() == [3, 1, 5, 2, 2, 8, 1]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=400), st.integers(1, 16), st.integers(0, 5))
def test_every_index_once_and_the_same_for_an_epoch(lengths, batch_size, epoch):
    first = list(LengthGrouped(lengths, batch_size, 7, lambda: epoch))
    assert sorted(first) == list(range(len(lengths)))
    assert first == list(LengthGrouped(lengths, batch_size, 7, lambda: epoch))


def test_epochs_differ_and_padding_is_small():
    lengths = np.random.default_rng(0).integers(20, 1000, 2000)

    def padded(order: list[int]) -> float:
        return (
            sum(lengths[order[i : i + 8]].max() * len(order[i : i + 8]) for i in range(0, len(order), 8))
            / lengths.sum()
        )

    first, second = (list(LengthGrouped(lengths, 8, 0, lambda e=e: e)) for e in (0, 1))
    assert first != second
    assert padded(first) < 1.05 < 1.5 < padded(list(range(2000)))


def test_counts_of_another_tokenizer_are_made_anew(make_spec, tmp_path, tokenizer):
    publish(make_rows(9), tmp_path / "d", FACTS, 0)  # never measured: all counts are 0
    spec = dataclasses.replace(make_spec(max_length=46), mixture=Mixture((Part(str(tmp_path / "d"), 1),)))
    data = prepare_data(spec)
    assert (
        data.folders == [f"{spec.work}/dataset"]
        and 0 < data.left_out < 9
        and data.examples + data.left_out == 9
    )
    assert build_trainer(config(spec, data.folders)).lengths.max() <= 46
    assert prepare_data(spec) == data
