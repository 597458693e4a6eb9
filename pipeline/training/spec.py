"""What defines one training, its fingerprint, and its result."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import Train
from pipeline.errors import DataError
from pipeline.models import ModelRef, folder_revision
from pipeline.publish.accumulate import Mixture
from pipeline.publish.kinds import SFT, Kind
from pipeline.publish.schema import MANIFEST
from pipeline.store.files import read_json
from pipeline.store.manifest import read_manifest

# Settings without influence on the result; changing them does not make a finished training stale.
_NO_INFLUENCE = {
    *("start", "workers", "shard", "cpus_per_worker", "gpus_per_worker", "save_steps", "micro_batch_size"),
    *("micro_batch_tokens", "attention", "liger", "gradient_checkpointing"),
}
_OF_LOSS = {"beta", "loss_type", "loss_weights", "desirable_weight", "undesirable_weight"}
TEMPLATE_FILE = "chat_template.jinja"  # the one it renders with, where that is not the model's own
REFERENCE_FILE = "reference.arrow"  # DPO, KTO: the reference's log-probabilities of each row, computed once


@dataclass(slots=True, frozen=True)
class TrainSpec:
    """One training on a kind of dataset: from `model`, on `mixture`, into the folder `out`.

    `work` holds the rest: checkpoints, progress, logs, trainer.yaml, loss.png, train.json. On a cluster both
    must be on a file system that all nodes share.
    """

    model: ModelRef
    out: str
    work: str
    mixture: Mixture
    train: Train
    seed: int
    trust_remote_code: bool = False
    kind: Kind = SFT
    reference: ModelRef | None = None  # DPO's and KTO's reference model; None: `model` itself
    replay: str | None = None  # CPT: a folder of rows whose payload["question"] is a general text
    role: str = ""  # train and save a LoRA adapter for this role
    adapter: str | None = None  # the folder of the adapter to continue; None: a new one

    @property
    def settings(self) -> Train:
        """`train` as this training takes it: with a learning rate, for DPO and KTO that, the steps and the
        batch sizes of their section.
        """
        own, _ = self.train.section(self.kind.command)
        names = ("epochs", "max_steps", "extra")
        changes = {name: getattr(own, name) for name in names} | {"learning_rate": self.rate[0]}
        for name in ("batch_size", "micro_batch_size"):
            changes[name] = getattr(own, name) or getattr(self.train, name)
        return self.train.model_copy(update=changes)

    @property
    def key(self) -> str:
        """Where its settings are in a recipe."""
        return self.train.section(self.kind.command)[1]

    def with_steps(self, tokens: float) -> "TrainSpec":
        """Return the spec with the optimizer steps that come nearest to train.max_tokens, for examples of a
        mean of `tokens`; itself if that is not set.
        """
        if self.train.max_tokens is None:
            return self
        steps = max(1, round(self.train.max_tokens / (tokens * self.settings.batch_size)))
        changes: dict[str, Any] = {"max_steps": steps, "max_tokens": None}
        for name in ("dpo", "kto"):
            changes[name] = getattr(self.train, name).model_copy(update={"max_steps": steps})
        return replace(self, train=self.train.model_copy(update=changes))

    @property
    def rate(self) -> tuple[float, str]:
        """The learning rate, and where it comes from."""
        return self.train.rate("cpt" if self.kind.blocks else self.kind.command)


@dataclass(slots=True, frozen=True)
class TrainResult:
    """The result of a training, as stored in train.json."""

    model: str
    revision: str
    base: str
    steps: int
    examples: int  # pairs for kind dpo, answers for kto, blocks for cpt
    left_out: int
    tokens: int  # seen by the trainer, with repetition over epochs, without padding
    seconds: float
    tokens_per_second: float
    final_loss: float | None
    shares: dict[str, Any]
    hyperparameters: dict[str, Any]
    versions: dict[str, str]
    fingerprint: dict[str, Any]
    kind: str = SFT.name
    rewards: dict[str, float] | None = None  # DPO, KTO: the last reward margin, and for DPO accuracy


def fingerprint(spec: TrainSpec) -> dict[str, Any]:
    """Return what the result depends on, by part. Raises DataError for a dataset without a manifest."""
    data = {}
    for part in spec.mixture.parts:
        try:
            data[f"round-{part.round:03d}"] = read_json(f"{part.path}/{MANIFEST}")["digest"]
        except FileNotFoundError:
            raise DataError(
                f"{part.path}: not a published dataset of round {part.round}: it has no {MANIFEST}."
            ) from None
    exclude = _NO_INFLUENCE | {"kind", "dpo", "kto", "cpt", "adapters"}
    exclude |= {"max_tokens"} if spec.train.max_tokens is None else set()  # as in trainings without the key
    inputs = {
        "model": {"revision": spec.model.revision}
        | ({"chat": chat} if (chat := spec.model.chat.digest) else {}),
        "data": data | _draw(spec.mixture),
        "train": spec.settings.model_dump(mode="json", exclude=exclude),
        "seed": spec.seed,
    }
    if spec.role:
        before = folder_revision(Path(spec.adapter)) if spec.adapter else None
        inputs["adapter"] = {"role": spec.role, "from": before}
    if spec.kind.command != SFT.command:
        own, reference = spec.train.section(spec.kind.command)[0], (spec.reference or spec.model).revision
        inputs[spec.kind.command] = own.model_dump(mode="json", include=_OF_LOSS) | {"reference": reference}
    if spec.kind.blocks:
        cpt = spec.train.cpt.model_dump(mode="json", include={"replay_rate", "replay_mode"})
        manifest = read_manifest(spec.replay) if spec.replay else None
        inputs["cpt"] = cpt | {"replay": [p.sha256 for p in manifest.parts] if manifest else []}
    return inputs


def _draw(mixture: Mixture) -> dict[str, Any]:
    """Return what a draw depends on, beside its parts; without a draw, they already reflect `keep_real`."""
    if mixture.subsample is None:
        return {}
    kept = {"keep_rounds": list(mixture.keep_rounds)} if mixture.keep_rounds else {}
    return {"subsample": mixture.subsample, "keep_real": mixture.keep_real, **kept}
