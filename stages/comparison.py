"""Several runs side by side: the same recipe over seeds, one arm per accumulation policy (or method) beside another."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from pipeline.display import console
from pipeline.errors import SelfloopError
from pipeline.rundir import RunDir
from pipeline.statistics import Interval
from pipeline.store import files
from stages.evaluation import correct_by_task
from stages.report import interval, round_facts


class Arm(NamedTuple):
    """The runs of one recipe that differ in their seed alone."""

    name: str
    runs: list[RunDir]
    rounds: int


def arms(runs: Sequence[RunDir]) -> list[Arm]:
    """Group runs by method, accumulation policy and kind of training. Raises SelfloopError when runs of one arm have different last rounds."""
    groups: dict[str, list[RunDir]] = {}
    for run in runs:
        recipe = run.recipe()
        real = "" if recipe.accumulate.keep_real else ", without real data"
        kind = "" if recipe.train.kind == "sft" else f", {recipe.train.kind}"
        groups.setdefault(f"{recipe.method['name']}, {recipe.accumulate.policy}{real}{kind}", []).append(run)
    found = []
    for name, members in groups.items():
        last = [max((r for r in m.rounds() if isinstance(r, int) and files.exists(m.evaluation(r))), default=0) for m in members]
        if len(set(last)) > 1:
            raise SelfloopError(f"{name}: the runs are not equally far: " + ", ".join(f"{m.root} round {n}" for m, n in zip(members, last, strict=True)))
        found.append(Arm(name, members, last[0]))
    return found


def pooled_difference(arm: Arm, new: int, old: int, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Return accuracy in round `new` minus round `old`, averaged over the arm's runs, with its 95% paired bootstrap interval.

    Questions are resampled within each run, and an answered question stays a pair of its two answers. The interval speaks of
    other questions, not of other seeds: three seeds are too few to resample; look at their single results for that.
    """
    rng = np.random.default_rng(seed)
    means, resampled = [], []
    for run in arm.runs:
        before, after = correct_by_task(run, old), correct_by_task(run, new)
        values = np.array([after[i] - before[i] for i in sorted(before.keys() & after.keys())])
        means.append(values.mean())
        resampled.append(np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)]))
    low, high = np.quantile(np.mean(resampled, axis=0), [0.025, 0.975])
    return Interval(float(np.mean(means)), float(low), float(high))


def compare(runs: Sequence[RunDir]) -> list[dict[str, Any]]:
    """Print one line per arm and return the facts: accuracy by round and seed, last round minus round 0, cost."""
    facts = [_facts(arm) for arm in arms(runs)]
    rounds = max(f["rounds"] for f in facts)
    table = Table(title="held-out greedy accuracy: mean over seeds (each seed)", title_justify="left")
    for name in ("arm", "n", *(f"round {r}" for r in range(rounds + 1)), "last - round 0 [95%]", "tokens", "minutes"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for f in facts:
        by_round = [f"{np.mean(a):.1%}\n({', '.join(f'{x:.1%}' for x in a)})" for a in f["accuracy"]]
        table.add_row(
            f["arm"], f"{f['seeds']} x {f['n']}", *by_round, *[""] * (rounds + 1 - len(by_round)), interval(f["last_minus_round_0"], signed=True),
            f"{f['generated_tokens']:,}", f"{f['minutes']:.0f}",
        )  # fmt: skip
    console.print(table)
    return facts


def _facts(arm: Arm) -> dict[str, Any]:
    rounds = [[round_facts(run, r) for run in arm.runs] for r in range(arm.rounds + 1)]
    if any(f is None for seeds in rounds for f in seeds):
        raise SelfloopError(f"{arm.name}: a run has no evaluated round 0 to compare with")
    return {
        "arm": arm.name,
        "seeds": len(arm.runs),
        "n": rounds[0][0]["n"],
        "rounds": arm.rounds,
        "accuracy": [[f["greedy"]["mean"] for f in seeds] for seeds in rounds],
        "last_minus_round_0": pooled_difference(arm, arm.rounds, 0)._asdict(),
        "generated_tokens": sum(f["generated_tokens"] for seeds in rounds for f in seeds),
        "minutes": sum(f["seconds"] for seeds in rounds for f in seeds) / 60,
    }
