"""What one training is: its specification, its fingerprint and what comes out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Train
from pipeline.errors import DataError
from pipeline.models import ModelRef, folder_revision
from pipeline.publish.accumulate import Mixture
from pipeline.publish.dataset import MANIFEST
from pipeline.publish.kinds import SFT, Kind
from pipeline.store.files import read_json
from pipeline.store.manifest import read_manifest

# Where and how often, but not what comes out: a change of these does not make a finished training stale.
_NO_INFLUENCE = {"start", "workers", "cpus_per_worker", "gpus_per_worker", "save_steps", "micro_batch_size"}
REFERENCE_FILE = "reference.arrow"  # DPO: what the reference says of each pair, computed once


@dataclass(slots=True, frozen=True)
class TrainSpec:
    """One training on a kind of dataset: from `model`, on `mixture`, into the folder `out`.

    `work` holds all else: checkpoints, progress, logs, trainer.yaml, loss.png, train.json. On a cluster both must be on a
    file system that all nodes see. `reference` is for DPO: the model that it is held to, None when that is `model` itself. `replay` is for CPT: the folder
    of general texts (rows whose payload["question"] is one), None for none. With a `role`, a LoRA adapter for it is trained and saved as such, from
    `adapter` (a folder) on, or afresh where that is None.
    """

    model: ModelRef
    out: str
    work: str
    mixture: Mixture
    train: Train
    seed: int
    trust_remote_code: bool = False
    kind: Kind = SFT
    reference: ModelRef | None = None
    replay: str | None = None
    role: str = ""
    adapter: str | None = None

    @property
    def settings(self) -> Train:
        """Return `train` as this kind of training takes it: for DPO with train.dpo's steps, batches and rate in their place."""
        if self.kind.command == SFT.command:
            return self.train
        own = self.train.dpo
        return self.train.model_copy(
            update={
                **{name: getattr(own, name) for name in ("learning_rate", "epochs", "max_steps", "extra")},
                "batch_size": own.batch_size or self.train.batch_size,
                "micro_batch_size": own.micro_batch_size or self.train.micro_batch_size,
            }
        )


@dataclass(slots=True, frozen=True)
class TrainResult:
    """What came out; the same as train.json. `tokens` counts what the trainer saw, epochs included, padding not.

    `examples` are pairs in a training of kind dpo, blocks in one of kind cpt, and `rewards` the last margin and accuracy it reported (None for sft).
    """

    model: str
    revision: str
    base: str
    steps: int
    examples: int
    left_out: int
    tokens: int
    seconds: float
    tokens_per_second: float
    final_loss: float | None
    shares: dict[str, Any]
    hyperparameters: dict[str, Any]
    versions: dict[str, str]
    fingerprint: dict[str, Any]
    kind: str = SFT.name
    rewards: dict[str, float] | None = None


def fingerprint(spec: TrainSpec) -> dict[str, Any]:
    """Return what the outcome depends on, by part. Raises DataError when a dataset has no manifest."""
    parts = {}
    for part in spec.mixture.parts:
        try:
            parts[f"round-{part.round:03d}"] = read_json(f"{part.path}/{MANIFEST}")["digest"]
        except FileNotFoundError:
            raise DataError(
                f"{part.path}: no {MANIFEST} in it, so it is not a published dataset (round {part.round})."
            ) from None
    return {
        "model": {"revision": spec.model.revision},
        "data": {**parts, **_draw(spec.mixture)},
        "train": spec.settings.model_dump(
            mode="json", exclude=_NO_INFLUENCE | {"kind", "dpo", "cpt", "adapters"}
        ),
        "seed": spec.seed,
        **(
            {
                "adapter": {
                    "role": spec.role,
                    "from": folder_revision(Path(spec.adapter)) if spec.adapter else None,
                }
            }
            if spec.role
            else {}
        ),
        **({} if spec.kind.command == SFT.command else {"dpo": _preference(spec)}),
        **({"cpt": _general_text(spec)} if spec.kind.blocks else {}),
    }


def _general_text(spec: TrainSpec) -> dict[str, Any]:
    manifest = read_manifest(spec.replay) if spec.replay else None
    return {
        **spec.train.cpt.model_dump(mode="json", include={"replay_rate", "replay_mode"}),
        "replay": [p.sha256 for p in manifest.parts] if manifest else [],
    }


def _preference(spec: TrainSpec) -> dict[str, Any]:
    own = spec.train.dpo.model_dump(mode="json", include={"beta", "loss_type", "loss_weights"})
    return {**own, "reference": (spec.reference or spec.model).revision}


def _draw(mixture: Mixture) -> dict[str, Any]:
    """What a draw depends on, beside its parts. Without one, `keep_real` has had its say when the parts were chosen."""
    if mixture.subsample is None:
        return {}
    kept = {"keep_rounds": list(mixture.keep_rounds)} if mixture.keep_rounds else {}
    return {"subsample": mixture.subsample, "keep_real": mixture.keep_real, **kept}
