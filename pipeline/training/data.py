"""The examples of one training as folders that a trainer can load: the mixture without what is too long."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from pipeline.chat.template import load_tokenizer
from pipeline.errors import StageError
from pipeline.publish.card import CardFacts
from pipeline.publish.dataset import (
    MANIFEST,
    labels,
    seen_tokens,
    shares,
    whole_lengths,
    write_dataset,
)
from pipeline.publish.kinds import measure
from pipeline.publish.loading import load_mixture
from pipeline.store.files import read_json
from pipeline.training.spec import TrainSpec

logger = logging.getLogger(__name__)

_LENGTH_SAMPLE = 64  # rows whose token counts are checked


@dataclass(slots=True, frozen=True)
class TrainingData:
    """Dataset folders with `examples` rows of `tokens` in all; `left_out` were too long; `shares` by origin
    and round; `right` of them are right, where they are labeled.
    """

    folders: list[str]
    examples: int
    left_out: int
    shares: dict[str, Any]
    tokens: int
    right: int | None = None


def prepare_data(spec: TrainSpec) -> TrainingData:
    """Draw the mixture and leave out examples longer than train.max_length tokens.

    Trains on the published folders themselves if nothing is drawn, left out, recounted or (for a kind that
    is trained on in order) to be mixed; otherwise writes the examples to `work`/dataset. Skips empty folders,
    which `load_dataset` and so TRL refuse. Raises StageError if no example is short enough, or if labeled
    ones are all right or all wrong.
    """
    data = load_mixture(spec.mixture, spec.seed, spec.kind)
    measured = _with_true_lengths(data, spec)
    lengths = whole_lengths(measured, spec.kind)
    chosen = measured.select(np.flatnonzero(lengths <= spec.train.max_length))
    left_out = len(data) - len(chosen)
    if not len(chosen):
        raise StageError(
            f"all {len(data)} {spec.kind.unit} are longer than train.max_length, {spec.train.max_length} "
            f"tokens (the shortest has {lengths.min()})."
        )
    counts = labels(chosen, spec.kind)
    if 0 in counts.values():
        raise StageError(
            f"all {len(chosen)} {spec.kind.unit} to train on are {'right' if counts['right'] else 'wrong'}; "
            "kto learns from right and wrong ones. More samples per question give more of both."
        )
    rows = {part.path: read_json(f"{part.path}/{MANIFEST}")["rows"] for part in spec.mixture.parts}
    whole = spec.mixture.subsample is None and len(data) == sum(rows.values())
    whole &= not (spec.kind.sequential and sum(map(bool, rows.values())) > 1)
    if whole and not left_out and measured is data:
        folders = [path for path, count in rows.items() if count]
    else:
        folders = [f"{spec.work}/dataset"]
        if not Path(folders[0], MANIFEST).exists():
            notes = (f"{left_out} {spec.kind.unit} longer than {spec.train.max_length} tokens are left out.",)
            newest = max(part.round for part in spec.mixture.parts)
            facts = CardFacts("Training mixture", "mixture of rounds", "", newest, notes=notes)
            write_dataset(chosen, folders[0], facts, spec.seed, spec.kind)
    paths, tokens = [str(Path(f).absolute()) for f in folders], seen_tokens(chosen, spec.kind)
    return TrainingData(paths, len(chosen), left_out, shares(chosen), tokens, counts.get("right"))


def _with_true_lengths(data: datasets.Dataset, spec: TrainSpec) -> datasets.Dataset:
    """Return `data` itself if a sample of its counts fits the model's tokenizer, else a recounted copy."""
    tokenizer = load_tokenizer(spec.model.path, spec.model.chat.template, spec.trust_remote_code)
    places = np.linspace(0, len(data) - 1, min(len(data), _LENGTH_SAMPLE), dtype=int)
    sample = [data[int(i)] for i in places]
    for row, counted in zip(sample, spec.kind.token_columns(tokenizer, sample), strict=True):
        if any(row[name] != value for name, value in counted.items()):
            logger.warning(
                "tokens were counted with another tokenizer or chat template than %s has; counting again",
                spec.model.name,
            )
            return datasets.Dataset.from_generator(
                lambda: measure(data, tokenizer, spec.kind),
                features=data.features,
                cache_dir=f"{spec.work}/cache",
            )
    return data
