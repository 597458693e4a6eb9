"""Batches of examples of similar length, which need little padding, in an order that resuming repeats."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
from torch.utils.data import Sampler

_POOL = 50  # batches that are sorted together: more of them pad less, fewer mix lengths better


class LengthGrouped(Sampler[int]):
    """Yields all indices once: shuffled, sorted by length in pools of batches, the batches shuffled again.

    Unlike with transformers' LengthGroupedSampler, the order is a function of seed and epoch alone, so a run
    resumed in the middle of an epoch skips exactly what it has seen; and batches do not come longest first.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        """`epoch` is called at each iteration: accelerate's wrapper does not always pass set_epoch on."""
        self.lengths = np.asarray(lengths)
        self.batch_size, self.seed, self.epoch = batch_size, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch()])
        order = rng.permutation(len(self.lengths))
        pools = np.split(order, range(self.batch_size * _POOL, len(order), self.batch_size * _POOL))
        order = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        batches = np.split(order, range(self.batch_size, len(order), self.batch_size))
        # A short batch stays at the end; anywhere else it would shift the boundaries of all batches after it.
        tail = [batches.pop()] if len(batches[-1]) < self.batch_size else []
        return iter(np.concatenate([*(batches[i] for i in rng.permutation(len(batches))), *tail]).tolist())


class GroupsByLength:
    """Mixin for TRL's trainers: batches of similar lengths whose order a resumed run repeats exactly.

    The trainer sets `lengths`, the tokens of each prepared example, and `prepared_tokens`, their total.
    """

    lengths: np.ndarray
    prepared_tokens: int

    def _get_train_sampler(self: Any, train_dataset: datasets.Dataset | None = None) -> Any:
        args = self.args
        if args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]  # TRL's trainer
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        return LengthGrouped(self.lengths, batch, args.seed, lambda: int((self.state.epoch or 0.0) + 1e-6))


def token_counts(prepared: datasets.Dataset, name: str = "input_ids") -> np.ndarray:
    """Return the length of a column of token ids in each prepared example."""
    batches = prepared.select_columns([name]).with_format("arrow").iter(1000)
    return np.concatenate([pc.list_value_length(batch[name]).to_numpy() for batch in batches])
