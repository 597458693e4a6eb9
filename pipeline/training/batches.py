"""Batches of examples of similar length, which need little padding, in an order that resuming repeats."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Sampler, SequentialSampler

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


class Filled(Sampler[int]):
    """Yields the indices of `sampler`, then `filler` until the last batch is full.

    accelerate deals whole batches out to the workers, and fills an epoch's last one with examples of its
    beginning, which then count twice. A filler without loss leaves the batch what one worker makes of it.
    """

    def __init__(self, sampler: Sampler[int], batch_size: int, filler: int) -> None:
        self.sampler, self.batch_size, self.filler = sampler, batch_size, filler

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        yield from self.sampler
        yield from [self.filler] * (len(self) - len(self.sampler))

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)


def with_filler(prepared: datasets.Dataset) -> datasets.Dataset:
    """Return the dataset and one more row, of a single token: no token is predicted from nothing, so it has
    no loss, whatever the labels.
    """
    row = {name: value[:1] if isinstance(value, list) else value for name, value in prepared[0].items()}
    row |= {"seq_lengths": [1]} if "seq_lengths" in row else {}
    last = datasets.Dataset.from_list([row], features=prepared.features)
    return datasets.concatenate_datasets([prepared, last])


class GroupsByLength:
    """Mixin for TRL's trainers: batches of similar lengths whose order a resumed run repeats exactly.

    The trainer sets `lengths`, the tokens of each prepared example, and `prepared_tokens`, their total.
    """

    lengths: np.ndarray
    prepared_tokens: int

    def _get_train_sampler(self: Any, train_dataset: datasets.Dataset | None = None) -> Any:
        args, count = self.args, len(self.lengths)
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        if args.train_sampling_strategy == "group_by_length":
            epoch = lambda: int((self.state.epoch or 0.0) + 1e-6)  # noqa: E731
            sampler: Any = LengthGrouped(self.lengths, batch, args.seed, epoch)
        elif args.world_size > 1 and args.train_sampling_strategy == "random":
            sampler = SeedableRandomSampler(range(count))  # what accelerate makes of transformers' own
        elif args.world_size > 1:
            sampler = SequentialSampler(range(count))
        else:
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]  # TRL's trainer
        # The dataset has a row more than lengths where there is a filler.
        return Filled(sampler, batch, count) if len(self.train_dataset) > count else sampler


def token_counts(prepared: datasets.Dataset, name: str = "input_ids") -> np.ndarray:
    """Return the length of a column of token ids in each prepared example."""
    batches = prepared.select_columns([name]).with_format("arrow").iter(1000)
    return np.concatenate([pc.list_value_length(batch[name]).to_numpy() for batch in batches])
