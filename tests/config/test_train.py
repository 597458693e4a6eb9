"""Settings of `train`: which trainings cannot start, and the learning rate where none is set."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Train, load_recipe
from pipeline.config.training import SCHEDULERS
from tests.config.test_load import refused


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (
            "{lr_scheduler_type: cosin}",
            "train.lr_scheduler_type: unknown scheduler. Did you mean 'cosine'? Known: l",
        ),
        ("{lr_scheduler_type: greedy}", "train.lr_scheduler_type: greedy follows evaluations"),
        ("{batch_size: 16, workers: 3}", "train.batch_size: 16 is not divisible by train.workers = 3"),
        ("{workers: some}", "train.workers: expected auto, or the number of workers"),
        ("{workers: 0}", "train.workers: expected auto, or the number of workers"),
        ("{shard: full, gpus_per_worker: 0}", "train.shard: full divides the model among GPUs, or among"),
        ("{workers: 20}", "train.batch_size: 16 is not divisible by train.workers = 20"),
        (
            "{workers: 2, micro_batch_size: 3}",
            "train.micro_batch_size: 3 does not divide a worker's share of the batch, 8",
        ),
        ("{kind: dpo, dpo: {batch_size: 3}, workers: 2}", "train.dpo.batch_size: 3 is not divisible"),
        ("{kind: sft_then_dpo, dpo: {micro_batch_size: 5}}", "train.dpo.micro_batch_size: 5 does not divide"),
        ("{kind: dpo, dpo: {batch_size: 3}, workers: 3}", ""),
        ("{kind: sft, dpo: {batch_size: 3}, workers: 2}", ""),
        ("{workers: 4, micro_batch_size: 2}", ""),
        (
            "{micro_batch_tokens: 4096, micro_batch_size: 2}",
            "train.micro_batch_tokens: 4096 replaces train.micro_batch_size",
        ),
    ],
)
def test_a_training_that_cannot_start_is_refused_before_anything_is_generated(
    tmp_path: Path, train: str, said: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"name: t\ntasks: {{source: jsonl}}\ntrain: {train}\n")
    if said:
        assert f"{path}:3: {said}" in refused(path)
        assert f"--set train={train}: {said}" in refused(path, f"train={train}")
    else:
        assert load_recipe(path)


def test_the_names_of_schedulers_are_those_of_transformers() -> None:
    from transformers.trainer_utils import SchedulerType

    assert sorted(SCHEDULERS) == sorted(s.value for s in SchedulerType)


@pytest.mark.parametrize(
    ("train", "kind", "rate", "why"),
    [
        ({}, "sft", 1e-5, "the default for all weights"),
        ({"lora": {}}, "sft", 1e-4, "the default with LoRA"),
        ({"learning_rate": 3e-4, "lora": {}}, "sft", 3e-4, "train.learning_rate"),
        ({"learning_rate": 3e-4}, "dpo", 5e-7, "the default for all weights"),
        ({"lora": {}}, "dpo", 5e-6, "the default with LoRA"),
        ({"dpo": {"learning_rate": 1e-6}}, "dpo", 1e-6, "train.dpo.learning_rate"),
        ({}, "cpt", 5e-6, "the default for all weights"),
    ],
)
def test_a_rate_that_is_not_set_depends_on_what_is_trained(
    train: dict[str, Any], kind: str, rate: float, why: str
) -> None:
    assert Train(**train).rate(kind) == (rate, why)
