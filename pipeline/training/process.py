"""The function that runs in each Ray Train worker, whatever is trained: TRL prepares the data and trains, checkpoints are kept whole."""

import logging
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ray.train
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.store.files import atomic_folder
from pipeline.training.build import build_trainer
from pipeline.training.checkpoints import alone, last_complete

logger = logging.getLogger(__name__)


def train_loop(config: dict[str, Any]) -> None:
    """Train, resuming from the last complete checkpoint, and save the model. Runs in every worker of a TorchTrainer.

    `config` (JSON values): kind (name of the dataset's kind), model, reference (dpo: folder or None), trust_remote_code, datasets (folders),
    arguments (fields of TRL's config), lora (or None), adapter (folder to go on from, or None), merge (false: save the adapter alone), precision,
    threads (or None), out, progress (file), reference_file (dpo), log (file; the
    rank is put before its suffix), lock (file).
    """
    context = ray.train.get_context()
    rank = context.get_world_rank()
    if context.get_world_size() == 1:
        # Ray's variables make accelerate wrap even a single worker in DDP, which copies every gradient: a third of the time on a CPU.
        for name in (
            "RANK",
            "LOCAL_RANK",
            "NODE_RANK",
            "WORLD_SIZE",
            "LOCAL_WORLD_SIZE",
            "MASTER_ADDR",
            "MASTER_PORT",
        ):
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
    checkpoint = _agreed(last_complete(trainer.args.output_dir))
    logger.info(
        "%d examples, %s",
        len(trainer.train_dataset),
        f"resuming from {checkpoint}" if checkpoint else "starting afresh",
    )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.is_world_process_zero():
        save_model(
            trainer.accelerator.unwrap_model(trainer.model),
            trainer.processing_class,
            Path(config["out"]),
            config.get("merge", True),
        )


def _agreed(checkpoint: Path | None) -> Path | None:
    """Return what the first worker found: on a shared file system another one may not see the newest checkpoint yet, and would resume from an older one."""
    if not torch.distributed.is_initialized():
        return checkpoint
    found = [checkpoint]
    torch.distributed.broadcast_object_list(found, src=0)
    return found[0]


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path, merge: bool = True
) -> None:
    """Save the model, LoRA merged in, as bf16 safetensors with its tokenizer and chat template, whole or not at all.

    Without `merge` the adapter alone is saved, in fp32: a later training goes on from it.
    """
    if not merge:
        with atomic_folder(out) as folder:
            model.save_pretrained(folder)
        return
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.config.use_cache = True  # the trainer turned it off for itself
    with atomic_folder(out) as folder:
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _log_to(path: Path) -> None:
    """Send this process's log lines to a file as well, with its process id, by which people find it."""
    os.makedirs(path.parent, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("pipeline").setLevel(
        logging.INFO
    )  # not the root: at that level `datasets` logs bytecode
