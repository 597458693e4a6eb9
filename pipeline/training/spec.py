"""What one training is: its specification, its fingerprint, and its settings in the words of TRL and of trainer.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.models import Train
from pipeline.engines.cpu import computes_bf16
from pipeline.errors import ConfigError, DataError
from pipeline.models import ModelRef
from pipeline.publish.accumulate import Mixture
from pipeline.publish.dataset import MANIFEST
from pipeline.store.files import read_json

# Where and how often, but not what comes out: a change of these does not make a finished training stale.
_NO_INFLUENCE = {"start", "workers", "cpus_per_worker", "gpus_per_worker", "save_steps", "micro_batch_size"}


@dataclass(slots=True, frozen=True)
class TrainSpec:
    """One supervised fine-tuning: from `model`, on `mixture`, into the folder `out`.

    `work` holds all else: checkpoints, progress, logs, trainer.yaml, loss.png, train.json. On a cluster both must be on a
    file system that all nodes see.
    """

    model: ModelRef
    out: str
    work: str
    mixture: Mixture
    train: Train
    seed: int
    trust_remote_code: bool = False


@dataclass(slots=True, frozen=True)
class TrainResult:
    """What came out; the same as train.json. `tokens` counts what the trainer saw, epochs included, padding not."""

    model: str
    revision: str
    base: str
    steps: int
    examples: int
    left_out: int
    tokens: int
    seconds: float
    tokens_per_second: float
    final_loss: float | None
    shares: dict[str, Any]
    hyperparameters: dict[str, Any]
    versions: dict[str, str]
    fingerprint: dict[str, Any]


def fingerprint(spec: TrainSpec) -> dict[str, Any]:
    """Return what the outcome depends on, by part. Raises DataError when a dataset has no manifest."""
    parts = {}
    for part in spec.mixture.parts:
        try:
            parts[f"round-{part.round:03d}"] = read_json(f"{part.path}/{MANIFEST}")["digest"]
        except FileNotFoundError:
            raise DataError(f"{part.path}: no {MANIFEST} in it, so it is not a published dataset (round {part.round}).") from None
    return {
        "model": {"revision": spec.model.revision},
        "data": {**parts, **_draw(spec.mixture)},
        "train": spec.train.model_dump(mode="json", exclude=_NO_INFLUENCE),
        "seed": spec.seed,
    }


def _draw(mixture: Mixture) -> dict[str, Any]:
    """What a draw depends on, beside its parts. Without one, `keep_real` has had its say when the parts were chosen."""
    return {} if mixture.subsample is None else {"subsample": mixture.subsample, "keep_real": mixture.keep_real}


def sft_arguments(spec: TrainSpec, examples: int, use_gpu: bool, bf16: bool) -> dict[str, Any]:
    """Return the fields of TRL's SFTConfig for this training, as JSON values. Raises ConfigError for sizes that do not divide."""
    train = spec.train
    share, rest = divmod(train.batch_size, train.workers)
    if rest or not share:
        raise ConfigError(f"train.batch_size: {train.batch_size} examples cannot be shared out evenly to {train.workers} workers.")
    micro = train.micro_batch_size or share
    if share % micro:
        raise ConfigError(f"train.micro_batch_size: {micro} does not divide a worker's share of the batch, {share} examples.")
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
        "packing": train.packing,
        "train_sampling_strategy": "random" if train.packing else "group_by_length",
        "completion_only_loss": True,
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
    return arguments | _extra(train.extra, arguments)


def wants_bf16(precision: str, gpu: bool) -> bool:
    """Tell whether to compute in bf16 here; "auto" does on GPUs from Ampere on and on CPUs with AMX or AVX512-BF16."""
    import torch

    if precision != "auto":
        return precision != "fp32"
    if gpu:  # a driver without a GPU asks for workers that have one: assume a recent one
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    return computes_bf16()


def trainer_yaml(spec: TrainSpec, arguments: Mapping[str, Any], folders: list[str]) -> str:
    """Return a file for `trl sft --config` that trains the same model on the same data with the same settings."""
    settings = {
        "model_name_or_path": spec.model.path,
        "dtype": "bfloat16" if spec.train.precision == "bf16" else "float32",
        "trust_remote_code": spec.trust_remote_code,
        "datasets": [{"path": folder} for folder in folders],
        **arguments,
        # Beside the run, not over it: its checkpoints are those that the run itself resumes from.
        "output_dir": str(Path(spec.work) / "trl-sft"),
    }
    if lora := spec.train.lora:
        targets = [lora.target_modules] if isinstance(lora.target_modules, str) else lora.target_modules
        settings |= {
            "use_peft": True,
            "lora_r": lora.r,
            "lora_alpha": lora.alpha,
            "lora_dropout": lora.dropout,
            "lora_target_modules": targets,
        }
    note = "# The same training by TRL's own command line: trl sft --config trainer.yaml\n"
    if spec.train.workers > 1:
        note += f"# It ran on {spec.train.workers} workers: add --num_processes {spec.train.workers}\n"
    return note + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _extra(extra: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Check the recipe's further SFTConfig fields: they must exist, and not be what the recipe has a key of its own for."""
    if not extra:
        return {}
    from dataclasses import fields

    from trl import SFTConfig

    known = {field.name for field in fields(SFTConfig)}
    own = ours.keys() - {"gradient_checkpointing", "logging_steps", "save_total_limit", "train_sampling_strategy", "dataloader_pin_memory"}
    for key in extra:
        if key in own:
            raise ConfigError(f"train.extra.{key}: selfloop sets this one itself, from the keys beside train.extra; change it there.")
        if key not in known:
            near = get_close_matches(key, sorted(known), 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"train.extra.{key}: TRL's SFTConfig has no such field.{hint}")
    return dict(extra)
