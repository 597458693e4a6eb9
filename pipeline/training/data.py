"""The examples one training sees: the mixture drawn, what is too long left out and counted, as folders that a trainer can load."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from pipeline.errors import StageError
from pipeline.publish.accumulate import load_mixture
from pipeline.publish.card import CardFacts
from pipeline.publish.dataset import MANIFEST, measure, row_tokens, shares, whole_lengths, write_dataset
from pipeline.store.files import read_json
from pipeline.training.spec import TrainSpec

logger = logging.getLogger(__name__)

_LENGTH_SAMPLE = 64  # rows whose token counts are checked


@dataclass(slots=True, frozen=True)
class TrainingData:
    """Dataset folders with `examples` rows in all; `left_out` rows were too long; `shares` as in pipeline.publish.dataset."""

    folders: list[str]
    examples: int
    left_out: int
    shares: dict[str, Any]


def prepare_data(spec: TrainSpec) -> TrainingData:
    """Draw the mixture and leave out examples longer than train.max_length tokens.

    When that leaves the published folders as they are, they are what is trained on; otherwise the examples are written to
    `work`/dataset. Folders without rows are left out, as `load_dataset` (and so TRL) refuses them. Raises StageError when no
    example is short enough.
    """
    own = Path(spec.work) / "dataset"
    data = load_mixture(spec.mixture, spec.seed, spec.kind)
    measured = _with_true_lengths(data, spec)
    lengths = whole_lengths(measured, spec.kind)
    fits = np.flatnonzero(lengths <= spec.train.max_length)
    left_out = len(data) - len(fits)
    if not len(fits):
        raise StageError(
            f"all {len(data)} {spec.kind.unit} are longer than train.max_length, {spec.train.max_length} tokens (the shortest has {lengths.min()})."
        )
    chosen = measured.select(fits)
    if spec.mixture.subsample is None and not left_out and measured is data:
        folders = [part.path for part in spec.mixture.parts if read_json(f"{part.path}/{MANIFEST}")["rows"]]
    else:
        folders = [str(own)]
        if not (own / MANIFEST).exists():
            notes = (f"{left_out} {spec.kind.unit} longer than {spec.train.max_length} tokens are left out.",)
            newest = max(part.round for part in spec.mixture.parts)
            write_dataset(
                chosen,
                folders[0],
                CardFacts("Training mixture", "mixture of rounds", "", newest, notes=notes),
                spec.seed,
                spec.kind,
            )
    return TrainingData(
        [str(Path(folder).absolute()) for folder in folders], len(chosen), left_out, shares(chosen)
    )


def _with_true_lengths(data: datasets.Dataset, spec: TrainSpec) -> datasets.Dataset:
    """Return `data` itself if its token counts are those of the model's tokenizer (a sample tells), else a copy counted anew."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec.model.path, trust_remote_code=spec.trust_remote_code)
    for i in np.linspace(0, len(data) - 1, min(len(data), _LENGTH_SAMPLE), dtype=int):
        row = data[int(i)]
        if any(row[name] != count for name, count in row_tokens(tokenizer, row, spec.kind).items()):
            logger.warning(
                "token counts were made with another tokenizer or chat template than %s has; counting again",
                spec.model.name,
            )
            return datasets.Dataset.from_generator(
                lambda: measure(data, tokenizer, spec.kind),
                features=data.features,
                cache_dir=f"{spec.work}/cache",
            )
    return data
