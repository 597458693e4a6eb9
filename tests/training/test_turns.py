"""Episodes through the real SFTTrainer.

The mask token by token, nothing cut, recounted for other tokenizers.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import yaml

from pipeline.errors import StageError
from pipeline.publish import TURNS, measure
from pipeline.publish.accumulate import Mixture, Part
from pipeline.publish.dataset import publish
from pipeline.training.arguments import trainer_yaml
from pipeline.training.build import build_trainer
from pipeline.training.data import prepare_data
from pipeline.training.spec import TrainSpec, fingerprint
from tests.publish.conftest import FACTS
from tests.publish.test_turns import make_episodes
from tests.training.test_preparation import config

pytestmark = pytest.mark.slow

IM_END = "<|im_end|>\n"


@pytest.fixture
def episodes(tmp_path: Path, tokenizer: Any) -> Path:
    publish(measure(make_episodes(10), tokenizer, TURNS), tmp_path / "turns", FACTS, 0, TURNS)
    return tmp_path / "turns"


@pytest.fixture
def spec(make_spec: Callable[..., TrainSpec], episodes: Path) -> TrainSpec:
    return dataclasses.replace(make_spec(), kind=TURNS, mixture=Mixture((Part(str(episodes), 1),)))


def config_of(spec: TrainSpec, folders: list[Any], **arguments: Any) -> dict[str, Any]:
    return config(spec, folders, **arguments) | {"kind": "turns"}


def test_fault_6_loss_falls_on_the_flagged_turns_token_by_token(spec, episodes, tokenizer) -> None:
    """The instruction, the bad action and every observation are masked.

    The reflection and the good rest are not.
    """
    trainer = build_trainer(config_of(spec, [episodes]))
    published = datasets.load_from_disk(str(episodes))["train"]
    assert len(trainer.train_dataset) == len(published) == 10 and set(published.column_names) == set(
        TURNS.features
    )
    for made, row in zip(trainer.train_dataset, published, strict=True):
        ids, labels = [], []
        for turn in row["turns"]:
            head, said = (
                tokenizer(t, add_special_tokens=False)["input_ids"]
                for t in (f"<|im_start|>{turn['role']}\n", turn["content"] + IM_END)
            )
            ids += head + said
            labels += [-100] * len(head) + (said if turn["loss"] else [-100] * len(said))
        assert made["input_ids"] == ids and made["labels"] == labels
        assert tokenizer.decode([i for i in labels if i != -100]) == "".join(
            t["content"] + IM_END for t in row["turns"] if t["loss"]
        )
        assert "wrong" in tokenizer.decode(ids) and "wrong" not in tokenizer.decode(
            [i for i in labels if i != -100]
        )
        assert (row["tokens_context"], row["tokens_loss"]) == (
            labels.count(-100),
            len(labels) - labels.count(-100),
        )
    batch = next(iter(trainer.get_train_dataloader()))
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


def test_masked_tokens_do_not_touch_the_loss(spec, episodes) -> None:
    """The loss is the mean negative log-probability of the flagged tokens, computed here from the logits."""
    trainer = build_trainer(config_of(spec, [episodes]))
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, dict(batch)).item()
        logits = (
            type(trainer.model)
            .forward(trainer.model, batch["input_ids"], attention_mask=batch["attention_mask"])
            .logits
        )
    scores = logits[:, :-1].log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    assert loss == pytest.approx(-scores[batch["labels"][:, 1:] != -100].mean().item(), rel=1e-4)


def test_what_is_too_long_is_left_out_and_counted_never_cut(spec, episodes) -> None:
    lengths = [len(row) for row in datasets.load_from_disk(str(episodes))["train"]["input_ids"]]
    limit = int(np.median(lengths))
    short = dataclasses.replace(spec, train=spec.train.model_copy(update={"max_length": limit}))
    data = prepare_data(short)
    assert data.left_out == sum(n > limit for n in lengths) > 0 and data.examples + data.left_out == 10
    trainer = build_trainer(config_of(short, data.folders))
    assert sorted(trainer.lengths) == sorted(n for n in lengths if n <= limit)
    with pytest.raises(StageError, match="would cut"):
        build_trainer(config_of(spec, [episodes], max_length=limit))


def test_token_ids_of_another_tokenizer_are_made_anew(spec, tmp_path, tokenizer) -> None:
    other = [
        row | {"input_ids": [1] * 9, "labels": [-100] * 8 + [1], "tokens_context": 8, "tokens_loss": 1}
        for row in make_episodes(6)
    ]
    publish(other, tmp_path / "other", FACTS, 0, TURNS)
    mixed = dataclasses.replace(spec, mixture=Mixture((Part(str(tmp_path / "other"), 1),)))
    data = prepare_data(mixed)
    made = datasets.load_from_disk(data.folders[0])["train"]
    assert {tuple(row["input_ids"]) for row in made} == {
        tuple(row["input_ids"]) for row in measure(make_episodes(6), tokenizer, TURNS)
    }


def test_the_trainer_file_is_for_trl_sft(spec, episodes) -> None:
    text = trainer_yaml(spec, config_of(spec, [episodes])["arguments"], [str(episodes)])
    assert "trl sft --config" in text and yaml.safe_load(text)["datasets"] == [{"path": str(episodes)}]
    assert "dpo" not in fingerprint(spec)
