"""Supervised fine-tuning with TRL's SFTTrainer.

Where loss falls: TRL masks the prompt (completion_only_loss), unless the dataset has `labels` (kind turns,
masked by pipeline.publish.loss_mask) or plain blocks of tokens (kind cpt, loss on all of them).
"""

from typing import Any

from trl import SFTConfig, SFTTrainer

from pipeline.training.batches import GroupsByLength, token_counts, with_filler
from pipeline.training.sharding import Shards
from pipeline.training.token_budget import TokenBudget


class LengthGroupedSFTTrainer(GroupsByLength, TokenBudget, Shards, SFTTrainer):
    """TRL's trainer with batches of similar lengths, and forward passes of so many tokens."""

    train_dataset: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lengths = token_counts(self.train_dataset)
        self.prepared_tokens = int(self.lengths.sum())
        if self.args.world_size > 1:
            self.train_dataset = with_filler(self.train_dataset)


def sft_trainer(config: dict[str, Any], arguments: dict[str, Any], **common: Any) -> LengthGroupedSFTTrainer:
    """Return the trainer for `config` (see process.train_loop); `common` are arguments of all trainers."""
    trainer = LengthGroupedSFTTrainer(args=SFTConfig(**arguments), **common)
    trainer.budget = config.get("micro_batch_tokens")
    return trainer
