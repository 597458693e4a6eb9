"""A training in TRL's terms: fields of its SFTConfig, DPOConfig or KTOConfig, and a config file for its
command line.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import Train
from pipeline.engines.cpu import computes_bf16
from pipeline.errors import ConfigError, suggest
from pipeline.publish.kinds import DPO, KTO, SFT
from pipeline.training.spec import TEMPLATE_FILE, TrainSpec

# Default size of a forward pass, see micro_batch.
CPU_TOKENS, GPU_TOKENS = 2048, 16_384
# Fields that selfloop sets but that the recipe's `extra` may override.
_OVERRIDABLE = {
    "gradient_checkpointing",
    "logging_steps",
    "save_total_limit",
    "train_sampling_strategy",
    "dataloader_pin_memory",
    "precompute_ref_log_probs",
}
# Fields that TRL knows and that cannot work here, by their beginning.
_SHARDED = "is not set here: train.shard divides the model among the workers (FSDP2). Remove it"
_NO_EVALUATION = "needs an evaluation during the training; selfloop evaluates after it. Remove it"
_REFUSED = {
    "fsdp": _SHARDED,
    "deepspeed": _SHARDED,
    "parallelism_config": _SHARDED,
    "eval_strategy": _NO_EVALUATION,
    "load_best_model_at_end": _NO_EVALUATION,
    "fp16": "is not supported: train.precision chooses fp32 or bf16. Remove it",
    "push_to_hub": "is not supported: `selfloop push RUN --to OWNER/NAME --models` pushes. Remove it",
    "report_to": "is not set here: the recipe's section `track` names the trackers. Remove it",
    "model_init_kwargs": "has no effect: selfloop loads the model itself. Remove it",
}


def trainer_arguments(
    spec: TrainSpec, examples: int, use_gpu: bool, bf16: bool, right: int | None = None
) -> dict[str, Any]:
    """Return the fields of TRL's config for this training, as JSON values. Raises ConfigError.

    `right` is how many of the examples are right, where they are labeled.
    """
    train, key = spec.settings, spec.key
    share, rest = divmod(train.batch_size, train.processes)
    if rest or not share:
        raise ConfigError(
            f"{key}.batch_size: {train.batch_size} {spec.kind.seen} cannot be split evenly among "
            f"{train.processes} workers."
        )
    micro = share if token_budget(spec) else micro_batch(train, share, len(spec.kind.replies), use_gpu)
    if spec.kind.sequential and micro < 2:  # TRL compares each row with another one in its forward pass
        micro = next((n for n in range(2, share) if share % n == 0), share)
    if share % micro:
        raise ConfigError(
            f"{key}.micro_batch_size: {micro} does not divide a worker's share of the batch, "
            f"{share} {spec.kind.seen}."
        )
    steps = train.max_steps or max(1, round(examples * train.epochs / train.batch_size))
    arguments = {
        "output_dir": str(Path(spec.work) / "checkpoints"),
        "seed": spec.seed,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": train.lr_scheduler_type,
        "warmup_steps": train.warmup_share,  # below 1: a share of all steps
        "weight_decay": train.weight_decay,
        "num_train_epochs": train.epochs,
        "max_steps": train.max_steps or -1,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": share // micro,
        # Whole texts without padding are not measured by TRL; what is too long has been left out (data.py).
        "max_length": None if train.extra.get("padding_free") and not train.packing else train.max_length,
        **_kind_arguments(spec, examples, right),
        "bf16": bf16,
        "use_cpu": not use_gpu,
        "gradient_checkpointing": checkpoints(train, use_gpu),
        "dataloader_pin_memory": use_gpu,
        "ddp_find_unused_parameters": False,  # there are none, and the search walks the graph at every step
        "save_strategy": "steps",
        "save_steps": train.save_steps,
        "save_total_limit": 2,
        "logging_steps": max(1, steps // 200),
        "disable_tqdm": True,
        "report_to": "none",
    }
    if train.liger:
        arguments["use_liger_kernel"] = True
    if train.shards > 1:
        arguments |= {"fsdp": True, "fsdp_config": {"version": 2, "reshard_after_forward": True}}
    return arguments | _extra(f"{key}.extra", train.extra, spec, arguments)


def micro_batch(train: Train, share: int, answers: int, use_gpu: bool) -> int:
    """Return how many rows (of `answers` texts) of a worker's `share` of a batch to process at once.

    As many as fit into train.micro_batch_tokens, or CPU_TOKENS or GPU_TOKENS, at max_length. On a CPU,
    throughput does not grow beyond that, memory does (2 MB a token for a model of 135M), and rows are padded
    to the longest. Measured with four rows of up to 1,408 tokens: 49 tokens/s together, 83 one by one. On a
    GPU, GPU_TOKENS keep it busy, and with gradient checkpointing a model of 8 billion parameters holds about
    4 GiB of activations for them.
    """
    if train.micro_batch_size:
        return train.micro_batch_size
    tokens = train.micro_batch_tokens or (GPU_TOKENS if use_gpu else CPU_TOKENS)
    fit = max(1, tokens // (train.max_length * answers))
    return max(n for n in range(1, min(share, fit) + 1) if share % n == 0)


def token_budget(spec: TrainSpec) -> int | None:
    """Return the tokens of a forward pass where rows are padded, if they are to be divided by that
    (pipeline.training.token_budget).
    """
    train = spec.settings
    padded = spec.kind.command == SFT.command and not (train.packing or train.extra.get("padding_free"))
    return train.micro_batch_tokens if padded and not train.micro_batch_size else None


def checkpoints(train: Train, use_gpu: bool) -> bool:
    """Tell whether to compute activations again. What auto comes to on a GPU is settled before, where the
    model is known (pipeline.training.workers). CPUs have memory to spare, and it costs them 10% of speed.
    """
    return use_gpu if train.gradient_checkpointing == "auto" else train.gradient_checkpointing


def most_tokens(train: Train) -> int:
    """Return the tokens of a worker's largest forward pass on a CPU."""
    answers, tokens = most_answers(train), train.micro_batch_tokens or CPU_TOKENS
    rows = max(train.micro_batch_size or 0, train.section(train.preference)[0].micro_batch_size or 0)
    return train.max_length * answers * rows if rows else max(tokens, train.max_length * answers)


def most_answers(train: Train) -> int:
    """Return the least number of answers in a forward pass of the largest training of a round."""
    return 2 if train.preference else 1


def wants_bf16(precision: str, gpu: bool) -> bool:
    """Tell whether to use bf16 here; "auto" does on GPUs since Ampere and CPUs with AMX or AVX512-BF16."""
    import torch

    if precision != "auto":
        return precision != "fp32"
    if gpu:  # a driver without a GPU plans for workers that have one: assume a recent one
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    return computes_bf16()


def wants_bf16_weights(precision: str, bf16: bool, lora: bool) -> bool:
    """Tell whether to load the weights as bf16: where a recipe says so, and frozen ones under LoRA.

    bf16 (8 bits of mantissa) loses AdamW's small updates, so weights that are trained stay fp32, adapters
    too. Frozen weights are multiplied as bf16 anyway where `bf16` is on (wants_bf16).
    """
    return precision == "bf16" or (lora and bf16)


def trainer_yaml(spec: TrainSpec, arguments: Mapping[str, Any], folders: list[str]) -> str:
    """Return a config file with which `trl sft` (or `trl dpo`, `trl kto`) repeats this training."""
    command, lora = spec.kind.command, spec.train.lora
    half = wants_bf16_weights(spec.train.precision, bool(arguments.get("bf16")), bool(lora))
    settings = {
        "model_name_or_path": spec.model.path,
        "dtype": "bfloat16" if half else "float32",
        "trust_remote_code": spec.trust_remote_code,
        "datasets": [{"path": folder} for folder in folders],
        **arguments,
        "output_dir": str(Path(spec.work) / f"trl-{command}"),  # not over the run's own checkpoints
    }
    if spec.train.attention:
        settings["attn_implementation"] = spec.train.attention
    if spec.model.chat.template and command == SFT.command:
        settings["chat_template_path"] = str(Path(spec.work) / TEMPLATE_FILE)
    if command != SFT.command and settings.get("train_sampling_strategy") == "group_by_length":
        # TRL by itself knows the lengths of supervised examples only.
        settings["train_sampling_strategy"] = "random"
    if lora:
        targets = [lora.target_modules] if isinstance(lora.target_modules, str) else lora.target_modules
        settings |= {
            "use_peft": True,
            "lora_r": lora.r,
            "lora_alpha": lora.alpha,
            "lora_dropout": lora.dropout,
            "lora_target_modules": targets,
        }
    notes = [f"The same training with TRL's own command line: trl {command} --config trainer.yaml"]
    if (count := spec.train.processes) > 1:
        notes.append(f"It ran on {count} workers: add --num_processes {count}")
    if spec.model.chat.template and command != SFT.command:
        notes.append(f"Not the same in one point: it rendered with {TEMPLATE_FILE}, beside this file.")
    if tokens := token_budget(spec):
        notes.append(
            f"It took each batch in forward passes of {tokens} tokens; this command takes it at once."
        )
    if spec.reference:
        notes.append(
            f"Not the same in one point: its reference was {spec.reference.path}; this command uses the "
            "model it starts from."
        )
    if spec.adapter:
        notes.append(
            "Not the same in one point: it continued the adapter in "
            f"{spec.adapter}; this command starts a new one."
        )
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return "".join(f"# {note}\n" for note in notes) + text


def _kind_arguments(spec: TrainSpec, examples: int, right: int | None) -> dict[str, Any]:
    if spec.kind.blocks:
        # The dataset already holds every step in order (pipeline.training.cpt).
        return {
            "num_train_epochs": 1,
            "max_steps": -1,
            "packing": False,
            "train_sampling_strategy": "sequential",
            "completion_only_loss": False,
        }
    if spec.kind.command == DPO.command:
        dpo = spec.train.dpo
        return {
            "train_sampling_strategy": "group_by_length",
            "beta": dpo.beta,
            "loss_type": list(dpo.loss_type),
            **({"loss_weights": dpo.loss_weights} if dpo.loss_weights else {}),
            "precompute_ref_log_probs": _is_seen_whole(spec, examples),
        }
    if spec.kind.command == KTO.command:
        kto = spec.train.kto
        desirable, undesirable = kto.weights(*((1, 1) if right is None else (right, examples - right)))
        return {
            "train_sampling_strategy": "sequential",
            "beta": kto.beta,
            "desirable_weight": desirable,
            "undesirable_weight": undesirable,
            "precompute_ref_log_probs": _is_seen_whole(spec, examples),
        }
    packing = spec.train.packing
    return {
        "packing": packing,
        "train_sampling_strategy": "random" if packing else "group_by_length",
        "completion_only_loss": True,
    }


def _is_seen_whole(spec: TrainSpec, examples: int) -> bool:
    """Tell whether a training sees every example.

    The reference scores each example once beforehand, or each that is seen, whichever is less. The former
    also needs no second model in memory.
    """
    train = spec.settings
    return (train.max_steps * train.batch_size if train.max_steps else examples * train.epochs) >= examples


def _extra(key: str, extra: Mapping[str, Any], spec: TrainSpec, ours: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe's further TRL fields. Raises ConfigError for unknown, reserved or refused ones."""
    if not extra:
        return {}
    import trl

    configs = {SFT.command: trl.SFTConfig, DPO.command: trl.DPOConfig, KTO.command: trl.KTOConfig}
    config = configs[spec.kind.command]
    known = {field.name for field in fields(config)}
    fixed = {"train_sampling_strategy"} if spec.kind.sequential else set()
    for name, value in extra.items():
        if why := next((_REFUSED[start] for start in _REFUSED if name.startswith(start) and value), ""):
            raise ConfigError(f"{key}.{name}: {why}.")
        if name in ours.keys() - (_OVERRIDABLE - fixed):
            raise ConfigError(
                f"{key}.{name}: selfloop sets this field from the keys next to {key}; change it there."
            )
        if name not in known:
            hint = suggest(name, known)
            raise ConfigError(f"{key}.{name}: TRL's {config.__name__} has no such field.{hint}")
        if name == "packing_strategy" and value != "bfd":
            raise ConfigError(f"{key}.{name}: only bfd keeps the texts of a packed sequence whole and apart.")
    return dict(extra)
