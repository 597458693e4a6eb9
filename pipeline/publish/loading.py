"""The rows of a mixture, as a trainer gets them. Takes a second to import, as `datasets` does."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import datasets
import numpy as np
import orjson

from pipeline.errors import DataError, StageError
from pipeline.ids import unit_interval
from pipeline.publish.accumulate import REAL_ROUND, Mixture, Part
from pipeline.publish.dataset import column
from pipeline.publish.kinds import SFT, Kind
from pipeline.publish.schema import SPLIT


def load_mixture(mixture: Mixture, seed: int, kind: Kind = SFT) -> datasets.Dataset:
    """Return the mixture's rows, memory-mapped, drawn and shuffled by `seed` and row ids alone.

    Raises DataError for a folder of another schema, StageError if the mixture has no rows at all.
    """
    pool = datasets.concatenate_datasets([_load(part, kind) for part in mixture.parts])
    if mixture.distinct:
        pool = pool.select(_newest(pool, kind))
    if not len(pool):
        folders = ", ".join(part.path for part in mixture.parts)
        raise StageError(f"there is nothing to train on: every dataset of the mixture is empty ({folders}).")
    ids = column(pool, "row_id")
    order: Iterable[int] = range(len(pool))
    if mixture.subsample is not None:
        order = _draw(_exempt(pool, mixture), ids, mixture.subsample, seed)
    return pool.select(sorted(order, key=lambda i: (unit_interval(seed, "mixture", ids[i]), ids[i])))


def _newest(pool: datasets.Dataset, kind: Kind) -> list[int]:
    """Return the rows whose content no newer round has. White space does not tell contents apart."""
    rounds = column(pool, "src_round")
    newest: dict[bytes, int] = {}
    keys = []
    for i, row in enumerate(pool.select_columns(list(kind.content))):
        keys.append(blake2b(orjson.dumps(_without_space(row)), digest_size=16).digest())
        newest[keys[-1]] = max(int(rounds[i]), newest.get(keys[-1], 0))
    return [i for i, key in enumerate(keys) if rounds[i] == newest[key]]


def _without_space(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_space(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_space(value) for value in content]
    return " ".join(content.split()) if isinstance(content, str) else content


def _exempt(pool: datasets.Dataset, mixture: Mixture) -> np.ndarray:
    """Tell for each row whether the draw must include it."""
    rounds = column(pool, "src_round")
    kept = np.isin(rounds, mixture.keep_rounds)
    # Real rows of later rounds are general text, not demonstrations.
    real = (column(pool, "src_kind") == "real") & (rounds == REAL_ROUND)
    return kept | real if mixture.keep_real else kept


def _draw(exempt: np.ndarray, ids: np.ndarray, n: int, seed: int) -> list[int]:
    """Choose `n` rows without replacement, by hash: first all exempt ones, even if they exceed `n`."""

    def rank(i: int) -> tuple[bool, float, str]:
        return (not exempt[i], unit_interval(seed, "subsample", ids[i]), ids[i])

    return sorted(range(len(ids)), key=rank)[: max(n, int(exempt.sum()))]


def _load(part: Part, kind: Kind) -> datasets.Dataset:
    """Return a round's dataset with the columns of `kind`, without further lineage columns (src_*)."""
    try:
        dataset = datasets.load_from_disk(part.path)[SPLIT]
    except (FileNotFoundError, KeyError) as e:
        raise DataError(f"{part.path}: not a published dataset of round {part.round}: {e}") from e
    wrong = [name for name, feature in kind.features.items() if dataset.features.get(name) != feature]
    more = [name for name in dataset.features if name not in kind.features]
    if wrong or not all(name.startswith("src_") for name in more):
        raise DataError(
            f"{part.path}: its columns do not match the schema of kind {kind.name}. Missing or of another "
            f"type: {', '.join(wrong) or 'none'}; unknown: {', '.join(more) or 'none'}. "
            f"Delete this folder and publish round {part.round} again."
        )
    return dataset.select_columns(list(kind.features)) if more else dataset
