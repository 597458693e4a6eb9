"""Which rounds' data a model trains on: all (the default), one, a window or a sample (arXiv 2404.01413)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Accumulate
from pipeline.errors import StageError

REAL_ROUND = 0  # the demonstrations


@dataclass(slots=True, frozen=True)
class Part:
    """The dataset folder that one round published."""

    path: str
    round: int


@dataclass(slots=True, frozen=True)
class Mixture:
    """Datasets to train on together, or `subsample` rows, with all of `keep_real` and `keep_rounds`."""

    parts: tuple[Part, ...]
    subsample: int | None = None
    keep_real: bool = True
    keep_rounds: tuple[int, ...] = ()
    distinct: bool = False  # of rows of several rounds that read the same, use those of the newest


def mixture(
    policy: Accumulate, round: int, available: Mapping[int, str | Path], distinct: bool = True
) -> Mixture:
    """Return what a round trains on; `available` maps rounds to dataset folders, 0 to the demonstrations.

    all: rounds 0..r. replace: round r. window:k: rounds r-k+1..r. subsample:n: n rows of rounds 0..r. With
    `keep_real`, round 0 is always in, and a subsample has all its rows; without it, round 0 is a round like
    any other. `keep_rounds` does the same for the rounds it names. A run without demonstrations has no round
    0. With `distinct`, rows of a window that read the same are used once; with other policies publishing
    sees to that. Raises StageError if the dataset of a round is missing, or if nothing is left to train on.
    """
    kind, _, number = policy.policy.partition(":")
    first = {"all": 0, "subsample": 0, "replace": round, "window": round - int(number or 1) + 1}[kind]
    wanted = {*range(max(first, 0), round + 1)} | ({REAL_ROUND} if policy.keep_real else set())
    wanted |= {r for r in policy.keep_rounds if r <= round}
    if missing := sorted(wanted - available.keys() - {REAL_ROUND}):
        raise StageError(
            f"accumulate.policy {policy.policy} needs the datasets of rounds {missing} for round {round}; "
            "publish these rounds first."
        )
    parts = tuple(Part(str(available[r]), r) for r in sorted(wanted & available.keys()))
    if not parts:
        raise StageError(
            f"round {round} has nothing to train on: no published rounds, and no demonstrations "
            f"(accumulate.policy {policy.policy})."
        )
    subsample = int(number) if kind == "subsample" else None
    return Mixture(
        parts, subsample, policy.keep_real, tuple(policy.keep_rounds), distinct and kind == "window"
    )
