"""Tokens/s of training, setting by setting, and its peak of memory against the estimate:
python -m tests.gpu.training FOLDER.
"""

import importlib.util
import json
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from transformers import AutoTokenizer, TrainerCallback

from pipeline.checks.machine import Machine
from pipeline.config import Accumulate, Train
from pipeline.estimates import folder_size, training_need
from pipeline.models import ModelRef, folder_revision
from pipeline.publish import SFT, CardFacts, Lineage, measure, mixture
from pipeline.publish.dataset import publish
from pipeline.training import TrainSpec
from pipeline.training.build import build_trainer
from pipeline.training.data import prepare_data
from pipeline.training.launch import worker_config
from pipeline.training.workers import settled
from tests.gpu import made_up

GPU = torch.cuda.is_available()
STEPS, WARM = 8, 3  # WARM steps are not counted
SIZE: dict[str, Any] = {"batch_size": 16, "max_length": 2048} if GPU else {"batch_size": 8, "max_length": 256}
TOKENS = 8192 if GPU else 512
# Each with what it needs: a GPU, or a module that may not be installed.
SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "as a run trains": ({}, ""),
    "activations kept": ({"gradient_checkpointing": False}, ""),
    "activations computed again": ({"gradient_checkpointing": True}, ""),
    "eager attention": ({"attention": "eager"}, ""),
    "flash attention 2": ({"attention": "flash_attention_2"}, "flash_attn"),
    "padding-free": ({"extra": {"padding_free": True}}, ""),
    "padding-free, flash attention 2": (
        {"extra": {"padding_free": True}, "attention": "flash_attention_2"},
        "flash_attn",
    ),
    f"passes of {TOKENS} tokens": ({"micro_batch_tokens": TOKENS}, ""),
    "Liger": ({"liger": True}, "liger_kernel"),
}


def main(folder: Path) -> None:
    base = made_up.model(folder)
    write_data(base, folder / "data")
    size, first = folder_size(str(base)), True
    for name, (setting, needs) in SETTINGS.items():
        if needs and not (GPU and importlib.util.find_spec(needs)):
            lacks = "a GPU" if not GPU else f"the package {needs}"
            print(f"  {name:34} skipped: it needs {lacks}, which is not here", flush=True)
            continue
        machine = Machine.here()
        train = settled(Train(max_steps=STEPS, workers=1, **SIZE, **setting), machine.gpus, size)
        try:
            rate = speed(base, train, folder / "work" / name)
        except torch.OutOfMemoryError as e:
            print(f"  {name:34} does not fit: {str(e)[:80]}", flush=True)
            continue
        line = f"  {name:34} {rate:8.0f} tokens/s"
        if GPU or first:  # of a process, main memory has one peak
            need = training_need(size, train, machine)
            line += f"; {peak() / 2**30:.2f} GiB at most, estimated {need.total / 2**30:.2f}"
        print(line, flush=True)
        first = False


def write_data(base: Path, folder: Path) -> None:
    """Publish examples of 5% to 90% of max_length tokens."""
    draw = random.Random(0)
    rows = []
    for i in range(64):
        count = draw.randrange(1, 9) * SIZE["max_length"] // 20  # a digit and a space are two tokens
        words = " ".join(str(draw.randrange(10)) for _ in range(count))
        of = Lineage(row_id=str(i), parent_ids=[], task_id=str(i), kind="real", round=0, method="made_up")
        prompt, answer = {"role": "user", "content": "Count."}, {"role": "assistant", "content": words}
        rows.append(SFT.row(of, prompt=[prompt], completion=[answer]))
    tokenizer = AutoTokenizer.from_pretrained(base)
    publish(measure(rows, tokenizer), folder, CardFacts("check", "", "", 0), 0)


def speed(base: Path, train: Train, work: Path) -> float:
    """Train a few steps and return tokens/s."""
    model = ModelRef(str(base), base.name, folder_revision(base))
    data = mixture(Accumulate(), 0, {0: work.parents[1] / "data"})
    spec = TrainSpec(model, str(work / "out"), str(work), data, train, 0)
    (work / "logs").mkdir(parents=True)
    config = worker_config(spec, prepare_data(spec), GPU, None)
    config["arguments"]["save_strategy"] = "no"
    config = json.loads(json.dumps(config))  # as the workers get it
    seen: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if GPU:
                torch.cuda.synchronize()
            seen.append((time.monotonic(), trainer._total_train_tokens))

    if GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trainer: Any = build_trainer(config)
    try:
        trainer.add_callback(Clock())
        trainer.train()
    finally:
        trainer = None  # its memory is the next one's
        AcceleratorState._reset_state()
        PartialState._reset_state()
    (began, before), (ended, after) = seen[WARM - 1], seen[-1]
    return (after - before) / (ended - began)


def peak() -> int:
    """Return the most bytes that were taken: of the GPU, or of this process."""
    return (
        torch.cuda.max_memory_reserved() if GPU else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
