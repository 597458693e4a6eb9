"""Preference optimization (arXiv 2305.18290): TRL's DPOTrainer on pairs of a chosen and a rejected answer."""

from typing import Any

import numpy as np
from trl import DPOConfig, DPOTrainer

from pipeline.training.batches import GroupsByLength, token_counts
from pipeline.training.reference import KeepsReference, reference_arguments
from pipeline.training.sharding import Shards


class LengthGroupedDPOTrainer(KeepsReference, GroupsByLength, Shards, DPOTrainer):
    """TRL's trainer with batches of similar lengths, and reference scores that survive a restart."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        prompt, chosen, rejected = (
            token_counts(self.train_dataset, f"{part}_ids") for part in ("prompt", "chosen", "rejected")
        )
        self.lengths = prompt + np.maximum(chosen, rejected)
        self.prepared_tokens = int((prompt + chosen + rejected).sum())


def dpo_trainer(config: dict[str, Any], arguments: dict[str, Any], **common: Any) -> LengthGroupedDPOTrainer:
    """Return the trainer for `config` (see process.train_loop); `common` are arguments of all trainers."""
    reference = reference_arguments(config, common["model"])
    return LengthGroupedDPOTrainer(args=DPOConfig(**arguments), **reference, **common)
