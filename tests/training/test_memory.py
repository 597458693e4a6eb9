"""A training that runs out of GPU memory goes on with half as much at once, once."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import StageError
from pipeline.training.launch import train
from pipeline.training.memory import MICRO, STEPS, halved
from pipeline.training.progress import read_progress
from pipeline.training.sft import LengthGroupedSFTTrainer
from pipeline.training.spec import TrainSpec
from tests.in_process import training_in_process


def full_above(monkeypatch: pytest.MonkeyPatch, rows: int, step: int) -> None:
    """From `step` on there is memory for so many rows in a forward pass only."""
    whole = LengthGroupedSFTTrainer.training_step

    def training_step(self: Any, model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        if self.state.global_step >= step and len(inputs["input_ids"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return whole(self, model, inputs, *rest)

    monkeypatch.setattr(LengthGroupedSFTTrainer, "training_step", training_step)


@pytest.mark.train
def test_it_goes_on_from_the_last_checkpoint_with_half_as_much(
    make_spec: Callable[..., TrainSpec], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = make_spec(learning_rate=1e-2, micro_batch_size=4, save_steps=3)
    other = dataclasses.replace(spec, work=spec.work + "-u", out=spec.out + "-u")
    with training_in_process():
        undisturbed = train(other)
        full_above(monkeypatch, rows=2, step=5)
        result = train(spec)
    said = [r.getMessage() for r in caplog.records if "memory" in r.getMessage()]
    assert said == [
        "the GPU's memory did not suffice for 4 examples in a forward pass; going on from the last "
        "checkpoint with 2 examples, in batches of the same size"
    ]
    assert (result.hyperparameters[MICRO], result.hyperparameters[STEPS]) == (2, 2)
    assert "checkpoint-3" in (Path(spec.work) / "logs" / "worker.0.log").read_text()
    losses, expected = (
        [line["loss"] for line in read_progress(Path(s.work) / "progress.jsonl")] for s in (spec, other)
    )
    assert len(losses) == 9 and losses == pytest.approx(expected, rel=1e-4)
    assert result.tokens == undisturbed.tokens


@pytest.mark.train
def test_a_second_time_it_says_what_to_set(
    make_spec: Callable[..., TrainSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    full_above(monkeypatch, rows=0, step=1)
    settings = "micro_batch_size.*max_length.*gradient_checkpointing.*lora.*shard.*Tried to allocate"
    with training_in_process(), pytest.raises(StageError, match=f"2 examples in a forward pass.*{settings}"):
        train(make_spec())


def test_half_the_tokens_help_only_above_the_longest_example() -> None:
    config = {
        "kind": "sft",
        "micro_batch_tokens": 2048,
        "arguments": {MICRO: 8, STEPS: 1, "max_length": 1024},
    }
    assert halved(config) == {"micro_batch_tokens": 1024}
    assert halved(config | {"micro_batch_tokens": 1024}) is None


@pytest.mark.parametrize(
    ("kind", "micro", "steps", "expected"),
    [
        ("sft", 8, 1, (4, 2)),
        ("sft", 3, 2, (1, 6)),
        ("sft", 1, 8, None),
        ("kto", 4, 1, (2, 2)),
        ("kto", 2, 4, None),
    ],
)
def test_halves_make_the_same_batch(
    kind: str, micro: int, steps: int, expected: tuple[int, int] | None
) -> None:
    changes = halved({"kind": kind, "arguments": {MICRO: micro, STEPS: steps}})
    assert (changes and (changes["arguments"][MICRO], changes["arguments"][STEPS])) == expected
