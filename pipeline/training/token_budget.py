"""Forward passes by the number of tokens (train.micro_batch_tokens) instead of the number of rows."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch


class TokenBudget:
    """Mixin for TRL's SFTTrainer: divides each worker's share of a batch, which TRL hands over as a whole,
    into forward passes of at most `budget` tokens with padding. Without a budget it changes nothing.

    Losses and gradients are those of the whole: TRL divides sums over tokens by the number of tokens in the
    batches of all workers (num_items_in_batch).
    """

    budget: int | None = None

    def training_step(
        self: Any, model: Any, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        step = super().training_step  # type: ignore[misc]  # TRL's trainer
        if self.budget is None:
            return step(model, inputs, num_items_in_batch)
        lengths = inputs["attention_mask"].sum(1).tolist()
        parts = divided(lengths, self.budget)
        if self.args.world_size > 1:  # the workers meet in every forward and backward pass
            count = torch.tensor(len(parts), device=self.accelerator.device)
            parts = divided(lengths, self.budget, int(self.accelerator.gather(count).max()))
        self.current_gradient_accumulation_steps = len(parts)
        losses = []
        for i, rows in enumerate(parts):
            width = max(lengths[row] for row in rows)
            part = {name: tensor[rows, :width] for name, tensor in inputs.items()}
            with nullcontext() if i == len(parts) - 1 else self.accelerator.no_sync(model):
                losses.append(step(model, part, num_items_in_batch))
        return torch.stack(losses).sum()


def divided(lengths: Sequence[int], budget: int, least: int = 1) -> list[list[int]]:
    """Return the rows of these lengths in parts of at most `budget` tokens, padded to a part's longest; a
    longer row is alone. There are `least` parts at least, if there are as many rows.
    """
    parts: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if parts and lengths[parts[-1][0]] * (len(parts[-1]) + 1) <= budget:
            parts[-1].append(row)
        else:
            parts.append([row])
    while len(parts) < min(least, len(lengths)):
        largest = max(parts, key=len)
        half = len(largest) // 2
        parts.append(largest[half:])
        del largest[half:]
    return parts
