"""Preference optimization (arXiv 2305.18290): TRL's DPOTrainer on pairs of a chosen and a rejected answer."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from pipeline.training.batches import GroupsByLength, token_counts


class LengthGroupedDPOTrainer(GroupsByLength, DPOTrainer):
    """TRL's trainer with batches of similar lengths, and reference scores that survive a restart."""

    def __init__(self, *, reference_file: Path, **kwargs: Any) -> None:
        self._reference_file = reference_file
        super().__init__(**kwargs)
        if self.precompute_ref_logps:
            self.ref_model = None  # no longer needed, and it takes the memory of a second model
        prompt, chosen, rejected = (
            token_counts(self.train_dataset, f"{part}_ids") for part in ("prompt", "chosen", "rejected")
        )
        self.lengths = prompt + np.maximum(chosen, rejected)
        self.prepared_tokens = int((prompt + chosen + rejected).sum())

    def _precompute_ref_logps(
        self, dataset: datasets.Dataset, name: str, batch_size: int
    ) -> datasets.Dataset:
        """Cache the log-probabilities in the training's folder, whose fingerprint covers model and data.

        With caching disabled, `datasets` picks a new path in each process: a resumed run would compute
        everything again, and the other workers would not find it.
        """

        def path(fingerprint: str) -> str:
            del dataset._get_cache_file_path  # used once: adding the columns later asks for another path
            return str(self._reference_file)

        dataset._get_cache_file_path = path
        return super()._precompute_ref_logps(dataset, name, batch_size)


def dpo_trainer(config: dict[str, Any], arguments: dict[str, Any], **common: Any) -> LengthGroupedDPOTrainer:
    """Return the trainer for `config` (see process.train_loop); `common` are arguments of all trainers.

    Without config["reference"] the reference is the model before training: with LoRA, the weights without the
    adapter; otherwise precomputed log-probabilities, or a copy of the model.
    """
    reference = None
    if path := config["reference"]:
        dtype, trust = common["model"].dtype, config["trust_remote_code"]
        reference = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=trust
        )
    file = Path(config["reference_file"])
    return LengthGroupedDPOTrainer(
        args=DPOConfig(**arguments), ref_model=reference, reference_file=file, **common
    )
