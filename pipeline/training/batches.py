"""Batches of examples of about the same length, so that little padding is computed, in an order that a resumed run repeats."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

_POOL = 50  # batches that are sorted together: more pads less, fewer mixes lengths better


class LengthGrouped(Sampler[int]):
    """Yields all indices once: shuffled, sorted by length within pools of batches, and the batches shuffled again.

    Unlike transformers' LengthGroupedSampler, the order is a function of seed and epoch alone, so that a run resumed in the
    middle of an epoch skips what it has seen and nothing else; and batches do not come longest first.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        """`epoch` is asked when an iteration starts: what wraps a sampler (accelerate) does not always pass set_epoch on."""
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
        # A short batch stays at the end, or all batches after it would be cut differently from how they were grouped.
        tail = [batches.pop()] if len(batches[-1]) < self.batch_size else []
        return iter(np.concatenate([*(batches[i] for i in rng.permutation(len(batches))), *tail]).tolist())
