"""A training that runs out of a GPU's memory: half as much at once, and if that does not do, what to set."""

from collections.abc import Iterable
from typing import Any

import torch

from pipeline.errors import StageError
from pipeline.publish.kinds import KINDS

MICRO, STEPS = "per_device_train_batch_size", "gradient_accumulation_steps"


def ran_out(errors: Iterable[BaseException]) -> bool:
    """Tell whether one of the workers' errors is for lack of GPU memory; the others' follow from it."""
    own = [e for e in errors if not type(e).__module__.startswith("ray.")]  # Ray's are about main memory
    # Not every allocation is torch's own: CUDA's libraries say so in words.
    return any(isinstance(e, torch.OutOfMemoryError) or "out of memory" in str(e).lower() for e in own)


def halved(config: dict[str, Any]) -> dict[str, Any] | None:
    """Return what changes in `config` (see process.train_loop) for half as much in a forward pass and the
    same batches; None if there is less than two times the least.
    """
    arguments, kind = config["arguments"], KINDS[config["kind"]]
    if tokens := config.get("micro_batch_tokens"):
        return {"micro_batch_tokens": tokens // 2} if tokens > arguments["max_length"] else None
    share = arguments[MICRO] * arguments[STEPS]
    least = 2 if kind.sequential else 1  # TRL compares each row with another one in its forward pass
    fit = [n for n in range(least, arguments[MICRO] // 2 + 1) if share % n == 0]
    return {"arguments": {**arguments, MICRO: fit[-1], STEPS: share // fit[-1]}} if fit else None


def size(config: dict[str, Any]) -> str:
    """Return how much a forward pass takes at most, in words."""
    if tokens := config.get("micro_batch_tokens"):
        return f"{tokens} tokens"
    return f"{config['arguments'][MICRO]} {KINDS[config['kind']].seen}"


def out_of_memory(config: dict[str, Any], error: BaseException) -> StageError:
    """Return the error of a training that has not enough memory even for `config`."""
    return StageError(
        f"training: the GPU's memory does not suffice, with {size(config)} in a forward pass either. Set a "
        "smaller train.micro_batch_size (or micro_batch_tokens) or train.max_length, "
        "train.gradient_checkpointing: true, train.lora, "
        f"or with several GPUs train.shard: full. What was said: {error}"
    )
