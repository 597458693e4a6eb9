"""Supervised fine-tuning: TRL masks the prompt and trains on the completion."""

from typing import Any

from trl import SFTConfig, SFTTrainer

from pipeline.training.batches import GroupsByLength, token_counts


class LengthGroupedSFTTrainer(GroupsByLength, SFTTrainer):
    """TRL's trainer with batches of similar lengths."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lengths = token_counts(self.train_dataset)
        self.prepared_tokens = int(self.lengths.sum())


def sft_trainer(config: dict[str, Any], arguments: dict[str, Any], **common: Any) -> LengthGroupedSFTTrainer:
    """Return the trainer for `config` (see pipeline.training.process); `common` is what all of TRL's trainers are given."""
    return LengthGroupedSFTTrainer(args=SFTConfig(**arguments), **common)
