"""A training in TRL's words: the fields of its SFTConfig or DPOConfig, and a trainer.yaml for its command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import Train
from pipeline.engines.cpu import computes_bf16
from pipeline.errors import ConfigError, suggest
from pipeline.publish.kinds import DPO, SFT
from pipeline.training.spec import TrainSpec

# Fields that selfloop sets but leaves to the recipe's `extra` to set otherwise.
CPU_TOKENS = (
    2048  # of one forward pass on a CPU, unless train.micro_batch_size says otherwise; see micro_batch
)
_FREE = {
    "gradient_checkpointing",
    "logging_steps",
    "save_total_limit",
    "train_sampling_strategy",
    "dataloader_pin_memory",
    "precompute_ref_log_probs",
}


def trainer_arguments(spec: TrainSpec, examples: int, use_gpu: bool, bf16: bool) -> dict[str, Any]:
    """Return the fields of TRL's config for this training, as JSON values. Raises ConfigError for sizes that do not divide."""
    train, key = spec.settings, "train" if spec.kind.command == SFT.command else "train.dpo"
    share, rest = divmod(train.batch_size, train.workers)
    if rest or not share:
        raise ConfigError(
            f"{key}.batch_size: {train.batch_size} {spec.kind.seen} cannot be shared out evenly to {train.workers} workers."
        )
    micro = micro_batch(train, share, len(spec.kind.replies), use_gpu)
    if share % micro:
        raise ConfigError(
            f"{key}.micro_batch_size: {micro} does not divide a worker's share of the batch, {share} {spec.kind.seen}."
        )
    steps = train.max_steps or max(1, round(examples * train.epochs / train.batch_size))
    arguments = {
        "output_dir": str(Path(spec.work) / "checkpoints"),
        "seed": spec.seed,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": train.lr_scheduler_type,
        "warmup_steps": train.warmup_share,  # a number below 1 is a share of all steps; TRL 1.16 has no warmup_ratio any more
        "weight_decay": train.weight_decay,
        "num_train_epochs": train.epochs,
        "max_steps": train.max_steps or -1,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": share // micro,
        "max_length": train.max_length,
        **(_cpt if spec.kind.blocks else _FIELDS[spec.kind.command])(spec, examples),
        "bf16": bf16,
        "use_cpu": not use_gpu,
        "gradient_checkpointing": use_gpu,  # on a CPU memory is plenty, and recomputing takes a tenth of the speed (measured)
        "dataloader_pin_memory": use_gpu,
        "ddp_find_unused_parameters": False,  # there are none, and looking for them costs a walk over the graph each step
        "save_strategy": "steps",
        "save_steps": train.save_steps,
        "save_total_limit": 2,
        "logging_steps": max(1, steps // 200),
        "disable_tqdm": True,
        "report_to": "none",
    }
    return arguments | _extra(f"{key}.extra", train.extra, spec, arguments)


def micro_batch(train: Train, share: int, answers: int, use_gpu: bool) -> int:
    """Return how many of a worker's `share` of a batch go through the model at once, each with `answers` texts of up to max_length tokens.

    On a GPU all of them. On a CPU no more than CPU_TOKENS: beyond that nothing is gained, memory grows by 2 MB a token (a model of 135M), and
    rows of different lengths are padded to the longest. Four of up to 1,408 tokens: 49 tokens/s at once, 83 one by one.
    """
    if train.micro_batch_size or use_gpu:
        return train.micro_batch_size or share
    fit = max(1, CPU_TOKENS // (train.max_length * answers))
    return max(n for n in range(1, min(share, fit) + 1) if share % n == 0)


def most_tokens(train: Train) -> int:
    """Return tokens of the largest forward pass of a worker on a CPU."""
    answers = 2 if train.kind in ("dpo", "sft_then_dpo") else 1
    rows = max(train.micro_batch_size or 0, train.dpo.micro_batch_size or 0)
    return train.max_length * answers * rows if rows else max(CPU_TOKENS, train.max_length * answers)


def _sft(spec: TrainSpec, examples: int) -> dict[str, Any]:
    packing = spec.train.packing
    return {
        "packing": packing,
        "train_sampling_strategy": "random" if packing else "group_by_length",
        "completion_only_loss": True,
    }


def _cpt(spec: TrainSpec, examples: int) -> dict[str, Any]:
    # The data are all the steps there are, in their order (pipeline.training.cpt).
    once = {"num_train_epochs": 1, "max_steps": -1}
    return {**once, "packing": False, "train_sampling_strategy": "sequential", "completion_only_loss": False}


def _dpo(spec: TrainSpec, examples: int) -> dict[str, Any]:
    own, train = spec.train.dpo, spec.settings
    seen = train.max_steps * train.batch_size if train.max_steps else examples * train.epochs
    return {
        "train_sampling_strategy": "group_by_length",
        "beta": own.beta,
        "loss_type": list(own.loss_type),
        **({"loss_weights": own.loss_weights} if own.loss_weights else {}),
        # Once for each pair, or once for each pair that is seen: what is less. The first also needs no second model in memory.
        "precompute_ref_log_probs": seen >= examples,
    }


_FIELDS = {SFT.command: _sft, DPO.command: _dpo}


def wants_bf16(precision: str, gpu: bool) -> bool:
    """Tell whether to compute in bf16 here; "auto" does on GPUs from Ampere on and on CPUs with AMX or AVX512-BF16."""
    import torch

    if precision != "auto":
        return precision != "fp32"
    if gpu:  # a driver without a GPU asks for workers that have one: assume a recent one
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    return computes_bf16()


def trainer_yaml(spec: TrainSpec, arguments: Mapping[str, Any], folders: list[str]) -> str:
    """Return a file for `trl sft --config` (or `trl dpo`) that trains the same model on the same data with the same settings."""
    settings = {
        "model_name_or_path": spec.model.path,
        "dtype": "bfloat16" if spec.train.precision == "bf16" else "float32",
        "trust_remote_code": spec.trust_remote_code,
        "datasets": [{"path": folder} for folder in folders],
        **arguments,
        # Beside the run, not over it: its checkpoints are those that the run itself resumes from.
        "output_dir": str(Path(spec.work) / f"trl-{spec.kind.command}"),
    }
    if spec.kind.command != SFT.command and settings.get("train_sampling_strategy") == "group_by_length":
        settings["train_sampling_strategy"] = (
            "random"  # by itself TRL can tell the lengths of supervised examples only
        )
    if lora := spec.train.lora:
        targets = [lora.target_modules] if isinstance(lora.target_modules, str) else lora.target_modules
        settings |= {
            "use_peft": True,
            "lora_r": lora.r,
            "lora_alpha": lora.alpha,
            "lora_dropout": lora.dropout,
            "lora_target_modules": targets,
        }
    note = f"# The same training by TRL's own command line: trl {spec.kind.command} --config trainer.yaml\n"
    if spec.train.workers > 1:
        note += f"# It ran on {spec.train.workers} workers: add --num_processes {spec.train.workers}\n"
    if spec.reference:
        note += f"# Not the same in one thing: its reference was {spec.reference.path}; this command knows none but the model it starts from.\n"
    if spec.adapter:
        note += f"# Not the same in one thing: it went on from the adapter in {spec.adapter}; this command begins with a new one.\n"
    return note + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _extra(key: str, extra: Mapping[str, Any], spec: TrainSpec, ours: Mapping[str, Any]) -> dict[str, Any]:
    """Check the recipe's further fields: TRL's config must have them, and the recipe no key of its own for them."""
    if not extra:
        return {}
    from dataclasses import fields

    import trl

    config = trl.SFTConfig if spec.kind.command == SFT.command else trl.DPOConfig
    known = {field.name for field in fields(config)}
    for name in extra:
        if name in ours.keys() - _FREE:
            raise ConfigError(
                f"{key}.{name}: selfloop sets this one itself, from the keys beside {key}; change it there."
            )
        if name not in known:
            raise ConfigError(
                f"{key}.{name}: TRL's {config.__name__} has no such field.{suggest(name, known)}"
            )
    return dict(extra)
