"""Preference optimisation (Rafailov et al. 2023, arXiv 2305.18290): TRL's DPOTrainer on pairs of a chosen and a rejected answer."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from pipeline.training.batches import GroupsByLength, token_counts


class LengthGroupedDPOTrainer(GroupsByLength, DPOTrainer):
    """TRL's trainer with batches of similar lengths, and reference log-probabilities that a resumed run finds again."""

    def __init__(self, *, reference_file: Path, **kwargs: Any) -> None:
        self._reference_file = reference_file
        super().__init__(**kwargs)
        if self.precompute_ref_logps:
            self.ref_model = None  # it has said all that it is asked for
        prompt, chosen, rejected = (
            token_counts(self.train_dataset, f"{part}_ids") for part in ("prompt", "chosen", "rejected")
        )
        self.lengths = prompt + np.maximum(chosen, rejected)
        self.prepared_tokens = int((prompt + chosen + rejected).sum())

    def _precompute_ref_logps(
        self, dataset: datasets.Dataset, name: str, batch_size: int
    ) -> datasets.Dataset:
        """As TRL does, but with the file in the training's folder, whose fingerprint vouches for model and data.

        Without caching `datasets` makes up another path in each process, so that a resumed run would compute all of it
        again, and the other workers would not find it.
        """

        def path(fingerprint: str) -> str:
            del (
                dataset._get_cache_file_path
            )  # joining the columns afterwards asks for a path too, and must not get this one
            return str(self._reference_file)

        dataset._get_cache_file_path = path
        return super()._precompute_ref_logps(dataset, name, batch_size)


def dpo_trainer(config: dict[str, Any], arguments: dict[str, Any], **common: Any) -> LengthGroupedDPOTrainer:
    """Return the trainer for `config` (see pipeline.training.process); `common` is what all of TRL's trainers are given.

    Without config["reference"] the reference is the model as it is before training: with LoRA the weights without the
    adapter, else what was computed beforehand or a copy of it.
    """
    reference = None
    if path := config["reference"]:
        model, trust = common["model"], config["trust_remote_code"]
        reference = AutoModelForCausalLM.from_pretrained(
            path, dtype=model.dtype, use_safetensors=True, trust_remote_code=trust
        )
    file = Path(config["reference_file"])
    return LengthGroupedDPOTrainer(
        args=DPOConfig(**arguments), ref_model=reference, reference_file=file, **common
    )
