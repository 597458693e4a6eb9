"""The rows of a mixture, as a trainer gets them. Takes a second to import, as `datasets` does."""

from typing import Any

import datasets
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.alike import Digests
from pipeline.errors import DataError, StageError
from pipeline.many_ids import in_order, unit_intervals
from pipeline.publish.accumulate import REAL_ROUND, Mixture, Part
from pipeline.publish.dataset import arrow_column, column
from pipeline.publish.kinds import SFT, Kind
from pipeline.publish.schema import SPLIT


def load_mixture(mixture: Mixture, seed: int, kind: Kind = SFT) -> datasets.Dataset:
    """Return the mixture's rows, memory-mapped, drawn and shuffled by `seed` and row ids alone.

    Raises DataError for a folder of another schema, StageError if the mixture has no rows at all.
    """
    pool = datasets.concatenate_datasets([_load(part, kind) for part in mixture.parts])
    if not len(pool):
        folders = ", ".join(part.path for part in mixture.parts)
        raise StageError(f"there is nothing to train on: every dataset of the mixture is empty ({folders}).")
    # Places in the pool, which is selected from once: of a selection `datasets` reads columns row by row.
    rows = _newest(pool, kind) if mixture.distinct else np.arange(len(pool))
    ids = arrow_column(pool, "row_id").take(rows)
    if mixture.subsample is not None:
        drawn = _draw(_exempt(pool, mixture)[rows], ids, mixture.subsample, seed)
        rows, ids = rows[drawn], ids.take(drawn)
    return pool.select(rows[in_order(ids, unit_intervals(ids, seed, "mixture"))])


def _newest(pool: datasets.Dataset, kind: Kind) -> np.ndarray:
    """Return the rows whose content no newer round has. White space does not tell contents apart."""
    contents = Digests()
    for row in pool.select_columns(list(kind.content)):
        contents.add(orjson.dumps(_without_space(row)))
    rounds, first = column(pool, "src_round"), contents.first()
    newest = np.zeros_like(rounds)
    np.maximum.at(newest, first, rounds)
    return np.flatnonzero(rounds == newest[first])


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
    real = pc.equal(arrow_column(pool, "src_kind"), "real").to_numpy() & (rounds == REAL_ROUND)
    return kept | real if mixture.keep_real else kept


def _draw(exempt: np.ndarray, ids: pa.ChunkedArray, n: int, seed: int) -> np.ndarray:
    """Choose `n` rows without replacement, by hash: first all exempt ones, even if they exceed `n`."""
    order = in_order(ids, ~exempt, unit_intervals(ids, seed, "subsample"))
    return order[: max(n, int(exempt.sum()))]


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
