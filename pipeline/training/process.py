"""The function that runs in each Ray Train worker, for every kind: build the trainer, resume, train, save."""

import logging
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ray.train
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.store.files import atomic_folder
from pipeline.training.build import build_trainer, gathered_model
from pipeline.training.checkpoints import SaveWhenPreempted, alone, last_complete
from pipeline.training.progress import ProgressWriter

logger = logging.getLogger(__name__)

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def train_loop(config: dict[str, Any]) -> None:
    """Train, resuming from the last complete checkpoint, and save the model; runs in every Ray Train worker.

    `config` holds JSON values: kind (name of the dataset's kind), model, reference (dpo: folder or None),
    trust_remote_code, chat_template ("": the model's own), stop_ids (further ends of turns), datasets
    (folders), arguments (fields of TRL's config), lora (or None), adapter (folder
    of one to continue, or None), merge (false: save the adapter alone), precision, attention (or None),
    micro_batch_tokens (or None), threads (or None), out, progress (file), reference_file (dpo), log (file;
    the rank goes before its suffix), lock (file).
    """
    context = ray.train.get_context()
    rank = context.get_world_rank()
    if context.get_world_size() == 1:
        # With these, accelerate wraps even one worker in DDP, which copies gradients: 1/3 of a CPU's time.
        for name in _RANKS:
            os.environ.pop(name, None)
    _log_to(Path(config["log"]).with_suffix(f".{rank}.log"))
    try:
        # Ray sets OMP_NUM_THREADS to the actor's num_cpus, or to 1 without any: torch would run on one core.
        if config["threads"]:
            torch.set_num_threads(config["threads"])
        with alone(config["lock"]) if rank == 0 else nullcontext():
            run_worker(config)
    except Exception:
        logger.exception("training failed")  # the driver shows the end of this file
        raise


def run_worker(config: dict[str, Any]) -> None:
    """Do one worker's part of a training, in a process group if there are several."""
    trainer = build_trainer(config)
    told = next(c for c in trainer.callback_handler.callbacks if isinstance(c, ProgressWriter))
    trainer.add_callback(SaveWhenPreempted(told))
    checkpoint = _agreed(last_complete(trainer.args.output_dir))
    start = f"resuming from {checkpoint}" if checkpoint else "starting afresh"
    logger.info("%d examples, %s", len(trainer.lengths), start)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    sharded = trainer.is_fsdp_enabled
    model = gathered_model(config, trainer) if sharded else trainer.accelerator.unwrap_model(trainer.model)
    if trainer.is_world_process_zero():
        _stop_at(model, config.get("stop_ids", []))
        save_model(model, trainer.processing_class, Path(config["out"]), config["merge"])


def _stop_at(model: PreTrainedModel, ids: list[int]) -> None:
    """Have the saved model stop at further tokens wherever it is served."""
    settings = getattr(model, "generation_config", None)
    if ids and settings is not None:
        known = settings.eos_token_id
        settings.eos_token_id = [
            *(known if isinstance(known, list) else [known] if known is not None else []),
            *ids,
        ]


def _agreed(checkpoint: Path | None) -> Path | None:
    """Return the first worker's checkpoint: on shared storage, others may not see the newest one yet."""
    if not torch.distributed.is_initialized():
        return checkpoint
    shared = [checkpoint]
    torch.distributed.broadcast_object_list(shared, src=0)
    return shared[0]


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path, merge: bool = True
) -> None:
    """Save the model atomically: LoRA merged in, bf16 safetensors, with its tokenizer and chat template.

    Without `merge`, save the adapter alone, in fp32, for a later training to continue.
    """
    if merge and hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    with atomic_folder(out) as folder:
        if merge:
            model.config.use_cache = True  # the trainer turned it off for itself
            model = model.to(torch.bfloat16)
            tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)


def _log_to(path: Path) -> None:
    """Send this process's log lines to a file as well, with its process id."""
    os.makedirs(path.parent, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    # Not the root logger: at INFO `datasets` logs bytecode.
    logging.getLogger("pipeline").setLevel(logging.INFO)
