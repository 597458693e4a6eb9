"""Supervised fine-tuning: the function that runs in each Ray Train worker. TRL prepares the data, masks it and trains."""

import logging
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
import ray.train
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig, SFTTrainer

from pipeline.errors import StageError
from pipeline.publish.dataset import SPLIT, column
from pipeline.store.files import atomic_folder
from pipeline.training.batches import LengthGrouped
from pipeline.training.checkpoints import MarkComplete, alone, last_complete
from pipeline.training.cpu import score_only_completions
from pipeline.training.progress import Progress
from pipeline.training.spec import wants_bf16

logger = logging.getLogger(__name__)


def train_loop(config: dict[str, Any]) -> None:
    """Train, resuming from the last complete checkpoint, and save the model. Runs in every worker of a TorchTrainer.

    `config` (JSON values): model, trust_remote_code, datasets (folders), arguments (SFTConfig), lora (or None), precision, threads (or
    None), out, progress (file), log (file; the rank is put before its suffix), lock (file).
    """
    context = ray.train.get_context()
    rank = context.get_world_rank()
    if context.get_world_size() == 1:
        # Ray's variables make accelerate wrap even a single worker in DDP, which copies every gradient: a third of the time on a CPU.
        for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)
    _log_to(Path(config["log"]).with_suffix(f".{rank}.log"))
    try:
        # Ray sets OMP_NUM_THREADS to the actor's num_cpus, and to 1 when that is unset: torch would run on one core.
        if config["threads"]:
            torch.set_num_threads(config["threads"])
        with alone(config["lock"]) if rank == 0 else nullcontext():
            _train(config)
    except Exception:
        logger.exception("training failed")  # the driver shows the end of this file
        raise


def _train(config: dict[str, Any]) -> None:
    trainer = build_trainer(config)
    checkpoint = last_complete(trainer.args.output_dir)
    logger.info("%d examples, %s", len(trainer.train_dataset), f"resuming from {checkpoint}" if checkpoint else "starting afresh")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.is_world_process_zero():
        save_model(trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class, Path(config["out"]))


def build_trainer(config: dict[str, Any]) -> "LengthGroupedSFTTrainer":
    """Return the trainer for `config` (see train_loop), its data prepared and checked."""
    # Otherwise `datasets` puts its cache files into the published folders themselves.
    datasets.disable_caching()
    datasets.disable_progress_bars()
    disable_progress_bar()
    arguments = config["arguments"]
    # Weights in bf16 have no room for AdamW's small updates (8 bits of mantissa): fp32 weights and bf16 arithmetic are the default.
    dtype = torch.bfloat16 if config["precision"] == "bf16" else torch.float32
    bf16 = wants_bf16(config["precision"], not arguments["use_cpu"])
    if bf16:
        # TRL multiplies the output layer's bf16 numbers as fp32; the bf16 units do that exactly, and 2 to 4 times as fast on a CPU.
        torch.set_float32_matmul_precision("medium")
    if arguments["use_cpu"]:
        score_only_completions()
    trust = config["trust_remote_code"]
    tokenizer = AutoTokenizer.from_pretrained(config["model"], trust_remote_code=trust)
    model = AutoModelForCausalLM.from_pretrained(config["model"], dtype=dtype, use_safetensors=True, trust_remote_code=trust)
    data = datasets.concatenate_datasets([datasets.load_from_disk(folder)[SPLIT] for folder in config["datasets"]])
    trainer = LengthGroupedSFTTrainer(
        model=model,
        args=SFTConfig(**{**arguments, "bf16": bf16}),
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=_lora(config["lora"]),
        callbacks=[Progress(config["progress"]), MarkComplete()],
    )
    trainer.remove_callback(PrinterCallback)
    _check_nothing_cut(data, trainer.lengths)
    return trainer


class LengthGroupedSFTTrainer(SFTTrainer):
    """TRL's trainer with batches of similar lengths whose order a resumed run repeats exactly."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lengths = token_counts(self.train_dataset)

    def _get_train_sampler(self, train_dataset: datasets.Dataset | None = None) -> torch.utils.data.Sampler | None:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        examples = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGrouped(self.lengths, examples, self.args.seed, lambda: int((self.state.epoch or 0.0) + 1e-6))


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Save the model, LoRA merged in, as bf16 safetensors with its tokenizer and chat template, whole or not at all."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.config.use_cache = True  # the trainer turned it off for itself
    with atomic_folder(out) as folder:
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def token_counts(prepared: datasets.Dataset) -> np.ndarray:
    """Return the length of each prepared example in tokens."""
    batches = prepared.select_columns(["input_ids"]).with_format("arrow").iter(1000)
    return np.concatenate([pc.list_value_length(batch["input_ids"]).to_numpy() for batch in batches])


def _check_nothing_cut(data: datasets.Dataset, prepared: np.ndarray) -> None:
    """Raise StageError unless every token of the data is in what TRL made of it: it cuts and drops without a word."""
    published = int(column(data, "tokens_prompt").sum() + column(data, "tokens_completion").sum())
    if int(prepared.sum()) != published:
        raise StageError(
            f"TRL prepared {int(prepared.sum())} tokens out of {published} published ones: it would cut examples, or the tokens were "
            "counted with another tokenizer or chat template. Publish the data again with this model's tokenizer."
        )


def _lora(settings: dict[str, Any] | None) -> Any:
    if settings is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=settings["r"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=settings["target_modules"],
        task_type="CAUSAL_LM",
    )


def _log_to(path: Path) -> None:
    """Send this process's log lines to a file as well, with its process id, by which people find it."""
    os.makedirs(path.parent, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("pipeline").setLevel(logging.INFO)  # not the root: at that level `datasets` logs bytecode
