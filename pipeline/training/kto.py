"""Kahneman-Tversky optimization (arXiv 2402.01306): TRL's KTOTrainer on right and wrong answers, unpaired.

TRL estimates the KL term of the loss with the answer of a row's neighbor in its forward pass, which it looks
up once, beforehand. So rows are trained on in the order in which they are stored, which publishing and
mixtures shuffle, and a forward pass has at least two of them.
"""

from typing import Any

import numpy as np
from trl import KTOConfig, KTOTrainer

from pipeline.training.batches import token_counts
from pipeline.training.reference import KeepsReference, reference_arguments
from pipeline.training.sharding import Shards


class UnpairedTrainer(KeepsReference, Shards, KTOTrainer):
    """TRL's trainer with reference scores that survive a restart."""

    lengths: np.ndarray
    prepared_tokens: int

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        prompt, answer = (
            token_counts(self.train_dataset, f"{part}_ids") for part in ("prompt", "completion")
        )
        self.lengths = prompt + answer
        self.prepared_tokens = int(self.lengths.sum())


def kto_trainer(config: dict[str, Any], arguments: dict[str, Any], **common: Any) -> UnpairedTrainer:
    """Return the trainer for `config` (see process.train_loop); `common` are arguments of all trainers."""
    reference = reference_arguments(config, common["model"])
    return UnpairedTrainer(args=KTOConfig(**arguments), **reference, **common)
