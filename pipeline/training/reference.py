"""The reference model of preference training: its scores are computed once, and survive a restart."""

from pathlib import Path
from typing import Any

import datasets
from transformers import AutoModelForCausalLM, PreTrainedModel


class KeepsReference:
    """Mixin for TRL's DPO and KTO trainers: reference scores in a file that a resumed run finds."""

    def __init__(self, *, reference_file: Path, **kwargs: Any) -> None:
        self._reference_file = reference_file
        super().__init__(**kwargs)
        if self.precompute_ref_logps:  # type: ignore[attr-defined]  # TRL's trainer
            self.ref_model = None  # no longer needed, and it takes the memory of a second model

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
        return super()._precompute_ref_logps(dataset, name, batch_size)  # type: ignore[misc]


def reference_arguments(config: dict[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    """Return the trainer's arguments about the reference for `config` (see process.train_loop).

    Without config["reference"] the reference is the model before training: with LoRA, the weights without the
    adapter; otherwise precomputed log-probabilities, or a copy of the model.
    """
    reference = None
    if path := config["reference"]:
        reference = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=model.dtype,
            use_safetensors=True,
            trust_remote_code=config["trust_remote_code"],
            attn_implementation=config.get("attention"),
        )
    return {"ref_model": reference, "reference_file": Path(config["reference_file"])}
