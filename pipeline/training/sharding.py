"""Weights, gradients and optimizer divided among the workers (train.shard): FSDP2, by way of accelerate.

Checkpoints have the files of an unsharded training, so that any number of workers resumes any of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from pipeline.errors import StageError

OPTIMIZER, SCHEDULER = "optimizer.pt", "scheduler.pt"  # transformers' names in a checkpoint
# The first worker gets, or has, all of it in its main memory; the others nothing.
_GATHERED = StateDictOptions(full_state_dict=True, cpu_offload=True)
_DEALT_OUT = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)


class Shards:
    """Mixin for TRL's trainers. Without `fsdp` in the arguments it changes nothing."""

    def create_accelerator_and_postprocess(self: Any) -> None:
        """Shard on CPUs as well: accelerate 1.15 does on accelerators alone, and elsewhere ignores `fsdp`
        without a word.
        """
        super().create_accelerator_and_postprocess()  # type: ignore[misc]  # transformers' trainer
        if not self.args.fsdp or self.is_fsdp_enabled:
            return
        plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
        if (precision := self.accelerator.mixed_precision) != "no":
            plugin.set_mixed_precision(precision)
        state = self.accelerator.state
        state.fsdp_plugin = plugin
        # Both have it: every new AcceleratorState starts as a copy of PartialState.
        state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
        self.is_fsdp_enabled = True

    def _save_optimizer_and_scheduler(self: Any, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
            return
        gathered = get_optimizer_state_dict(self.model, self.optimizer, options=_GATHERED)
        if self.args.should_save:
            torch.save(_numbered(gathered), Path(output_dir, OPTIMIZER))
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER))

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        sharded = model if model is not None else self.model
        saved = _read(Path(resume_from_checkpoint), sharded) if self.args.process_index == 0 else {}
        set_model_state_dict(sharded, saved, options=_DEALT_OUT)

    def _load_optimizer_and_scheduler(self: Any, checkpoint: str | None) -> None:
        if checkpoint is None or not self.is_fsdp_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
            return
        named: dict[str, Any] = {}
        if self.args.process_index == 0:
            saved = torch.load(Path(checkpoint, OPTIMIZER), map_location="cpu", weights_only=True)
            named = _named(saved, list(_trained_names(self.model, self.optimizer)))
        set_optimizer_state_dict(self.model, self.optimizer, named, options=_DEALT_OUT)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER), weights_only=True))


def _read(checkpoint: Path, model: Any) -> dict[str, torch.Tensor]:
    """Return a checkpoint's weights by the names of the model's parameters.

    Raises StageError if they are not those that the model has: resuming would train fresh ones.
    """
    saved: dict[str, torch.Tensor] = {}
    for file in checkpoint.glob("*.safetensors"):
        saved |= load_file(file)
    needed = {name for name, _ in model.named_parameters()}  # of tied ones the first, as in the file
    if hasattr(model, "peft_config"):  # the file has the adapter alone, without its name
        needed = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        full = {name.replace(".default.", "."): name for name in needed}
        saved = {full.get(name, name): tensor for name, tensor in saved.items()}
    if missing := sorted(needed - saved.keys()):
        raise StageError(f"{checkpoint} lacks weights of the model: {', '.join(missing[:3])}. Remove it.")
    return saved


def _trained_names(model: Any, optimizer: Any) -> Iterator[str]:
    """Yield the names of the optimizer's parameters, in its order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        yield from (names[id(parameter)] for parameter in group["params"])


def _numbered(named: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's state with parameters counted through, as torch.optim saves it."""
    places = {name: i for i, name in enumerate(n for g in named["param_groups"] for n in g["params"])}
    groups = [{**group, "params": [places[n] for n in group["params"]]} for group in named["param_groups"]]
    return {"state": {places[n]: state for n, state in named["state"].items()}, "param_groups": groups}


def _named(numbered: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the opposite of `_numbered`: parameters by their names, which are given in order."""
    groups = [{**group, "params": [names[i] for i in group["params"]]} for group in numbered["param_groups"]]
    return {"state": {names[i]: state for i, state in numbered["state"].items()}, "param_groups": groups}
