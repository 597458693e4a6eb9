"""Which rounds' data a model trains on: accumulate (default), replace, window or subsample (Gerstgrasser et al. 2024, arXiv 2404.01413)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np

from pipeline.config import Accumulate
from pipeline.errors import DataError, StageError
from pipeline.ids import unit_interval
from pipeline.publish.dataset import SPLIT, column
from pipeline.publish.kinds import SFT, Kind

REAL_ROUND = 0


@dataclass(slots=True, frozen=True)
class Part:
    """One published dataset folder; `real` when it holds the demonstrations (round 0)."""

    path: str
    round: int
    real: bool


@dataclass(slots=True, frozen=True)
class Mixture:
    """Datasets to train on together. `subsample` rows are drawn from them; `keep_real` and `keep_rounds` exempt rows from the draw."""

    parts: tuple[Part, ...]
    subsample: int | None = None
    keep_real: bool = True
    keep_rounds: tuple[int, ...] = ()


def mixture(policy: Accumulate, round: int, available: Mapping[int, str | Path]) -> Mixture:
    """Return what round `round` trains on under `policy`; `available` maps rounds to dataset folders, 0 to the real demonstrations.

    all: rounds 0..r. replace: round r. window:k: rounds r-k+1..r. subsample:n: n rows of rounds 0..r. In all of them `keep_real` puts
    round 0 in, whatever the policy says of that round; without it round 0 is one round among the others. Under subsample with
    `keep_real`, all real rows are in and the draw fills up to n. `keep_rounds` does for the rounds it names what `keep_real` does for
    round 0. A run without demonstrations has no round 0, and that is fine.
    Raises StageError when a round's dataset is missing, or when nothing is left to train on.
    """
    kind, _, number = policy.policy.partition(":")
    first = {"all": 0, "subsample": 0, "replace": round, "window": round - int(number or 1) + 1}[kind]
    wanted = {*range(max(first, 0), round + 1)} | ({REAL_ROUND} if policy.keep_real else set())
    wanted |= {r for r in policy.keep_rounds if r <= round}
    missing = sorted(wanted - available.keys() - {REAL_ROUND})
    if missing:
        raise StageError(
            f"accumulate.policy {policy.policy} needs the datasets of rounds {missing} for round {round}; they are not there."
        )
    parts = tuple(Part(str(available[r]), r, r == REAL_ROUND) for r in sorted(wanted & available.keys()))
    if not parts:
        raise StageError(
            f"round {round} has nothing to train on: no published rounds, and no demonstrations (accumulate.policy {policy.policy})."
        )
    return Mixture(
        parts, int(number) if kind == "subsample" else None, policy.keep_real, tuple(policy.keep_rounds)
    )


def load_mixture(mixture: Mixture, seed: int, kind: Kind = SFT) -> datasets.Dataset:
    """Return the mixture's rows, memory-mapped, drawn and shuffled by `seed` and row ids alone: the order of parts does not matter.

    Raises DataError for a folder of another schema, StageError when the mixture has no rows at all.
    """
    pool = datasets.concatenate_datasets([_load(part, kind) for part in mixture.parts])
    if not len(pool):
        folders = ", ".join(part.path for part in mixture.parts)
        raise StageError(f"there is nothing to train on: every dataset of the mixture is empty ({folders}).")
    ids = column(pool, "row_id")
    order = range(len(pool))
    if mixture.subsample is not None:
        order = _draw(_exempt(pool, mixture), ids, mixture.subsample, seed)
    return pool.select(sorted(order, key=lambda i: (unit_interval(seed, "mixture", ids[i]), ids[i])))


def _exempt(pool: datasets.Dataset, mixture: Mixture) -> np.ndarray:
    """Return for each row whether the draw has to leave it in."""
    kept = np.isin(column(pool, "src_round"), mixture.keep_rounds)
    real = (column(pool, "src_kind") == "real") & (
        column(pool, "src_round") == REAL_ROUND
    )  # not general text beside a later round's own
    return kept | real if mixture.keep_real else kept


def _draw(exempt: np.ndarray, ids: np.ndarray, n: int, seed: int) -> list[int]:
    """Choose `n` rows without replacement: those whose hash is smallest, exempt ones before all others, and all of them."""

    def rank(i: int) -> tuple[bool, float, str]:
        return (not exempt[i], unit_interval(seed, "subsample", ids[i]), ids[i])

    return sorted(range(len(ids)), key=rank)[: max(n, int(exempt.sum()))]


def _load(part: Part, kind: Kind) -> datasets.Dataset:
    try:
        dataset = datasets.load_from_disk(part.path)[SPLIT]
    except (FileNotFoundError, KeyError) as e:
        raise DataError(f"{part.path}: not a published dataset of round {part.round}: {e}") from e
    if dataset.features != kind.features:
        raise DataError(
            f"{part.path}: its columns are not those of this version's schema; publish round {part.round} again."
        )
    return dataset
