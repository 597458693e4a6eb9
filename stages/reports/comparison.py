"""Several runs side by side: the same recipe over seeds, one arm per accumulation policy (or method) beside another."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from pipeline.display import console, round_title
from pipeline.errors import SelfloopError
from pipeline.ids import digest
from pipeline.rundir import RoundKey, RunDir, differences, may_change
from pipeline.statistics import Interval, resampled_means
from pipeline.store import files
from stages.reports.table import interval, round_facts
from stages.rounds.measures import correct_by_task, documents_by_task

LONGEST_SHOWN = 40  # characters of a setting in an arm's name


class Arm(NamedTuple):
    """The runs of one recipe that differ in their seed, and in what no outcome depends on, alone. `first` is what they are compared with: round 0, else the base model."""

    name: str
    runs: list[RunDir]
    rounds: int
    first: RoundKey


def arms(runs: Sequence[RunDir]) -> list[Arm]:
    """Group runs by method (and its arm), accumulation policy, kind of training and where it starts; what else differs among those of a group tells its
    arms apart, and is in their names. Raises SelfloopError when runs of one arm have different last rounds."""
    groups: dict[str, list[RunDir]] = {}
    for run in runs:
        recipe = run.recipe()
        real = "" if recipe.accumulate.keep_real else ", without real data"
        kept = f", keeping rounds {recipe.accumulate.keep_rounds}" if recipe.accumulate.keep_rounds else ""
        kind = "" if recipe.train.kind == "sft" else f", {recipe.train.kind}"
        start = "" if recipe.train.start == "base" else ", continued"
        arm = f" {recipe.method['arm']}" if "arm" in recipe.method else ""
        groups.setdefault(
            f"{recipe.method['name']}{arm}, {recipe.accumulate.policy}{real}{kept}{kind}{start}", []
        ).append(run)
    found = []
    for name, members in ((name, members) for group in groups.items() for name, members in _apart(*group)):
        last = [
            max((r for r in m.rounds() if isinstance(r, int) and files.exists(m.evaluation(r))), default=0)
            for m in members
        ]
        if len(set(last)) > 1:
            raise SelfloopError(
                f"{name}: the runs are not equally far: "
                + ", ".join(f"{m.root} round {n}" for m, n in zip(members, last, strict=True))
            )
        first: RoundKey = 0 if all(files.exists(m.evaluation(0)) for m in members) else "base"
        found.append(Arm(name, members, last[0], first))
    return found


def _apart(name: str, runs: list[RunDir]) -> Iterator[tuple[str, list[RunDir]]]:
    """Yield the arms in a group of runs: those whose recipes are the same but for the seed, under `name` and the settings that differ in the group."""
    recipes = [run.recipe().model_dump(mode="json") for run in runs]
    changed = {key for recipe in recipes for key, *_ in differences(recipes[0], recipe)}
    keys = sorted(
        key
        for key in changed
        if not may_change(key, runs[0].recipe()) and key not in ("name", "seed", "evaluate.base_model")
    )
    found: dict[str, list[RunDir]] = {}
    for run, recipe in zip(runs, recipes, strict=True):
        found.setdefault(", ".join([name, *(f"{key} {_shown(recipe, key)}" for key in keys)]), []).append(run)
    yield from found.items()


def _shown(recipe: dict[str, Any], key: str) -> str:
    value: Any = recipe
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... ({digest(value)[:6]})"


def pooled_difference(
    arm: Arm, new: RoundKey, old: RoundKey, resamples: int = 10_000, seed: int = 0, name: str | None = None
) -> Interval:
    """Return accuracy in round `new` minus round `old`, averaged over the arm's runs, with its 95% paired bootstrap interval.

    Of the held-out set, or of the evaluation set `name`.

    Questions (or the documents that they name) are resampled within each run, and an answered question stays a pair of its two answers. The interval speaks of
    other questions, not of other seeds: three seeds are too few to resample; look at their single results for that.
    """
    rng = np.random.default_rng(seed)
    means, resampled = [], []
    for run in arm.runs:
        before, after = correct_by_task(run, old, name), correct_by_task(run, new, name)
        both, documents = sorted(before.keys() & after.keys()), documents_by_task(run, new, name)
        values = np.array([after[i] - before[i] for i in both])
        means.append(values.mean())
        resampled.append(
            resampled_means(values, resamples, rng, [documents[i] for i in both] if documents else None)
        )
    low, high = np.quantile(np.mean(resampled, axis=0), [0.025, 0.975])
    return Interval(float(np.mean(means)), float(low), float(high))


def compare(runs: Sequence[RunDir]) -> list[dict[str, Any]]:
    """Print one line per arm and return the facts: accuracy by round and seed, last round minus the first model, cost; of each set."""
    facts = [_facts(arm) for arm in arms(runs)]
    first = "round 0" if all(f["first"] == "round 0" for f in facts) else "start"
    _print("held-out greedy accuracy: mean over seeds (each seed)", facts, first, facts)
    for name in dict.fromkeys(name for f in facts for name in f["sets"]):
        having = [f for f in facts if name in f["sets"]]
        _print(
            f"{name}: greedy accuracy: mean over seeds (each seed)",
            [{**f, **f["sets"][name]} for f in having],
            first,
        )
    return facts


def _print(
    title: str, facts: Sequence[dict[str, Any]], first: str, costs: Sequence[dict[str, Any]] = ()
) -> None:
    """Print a table with one line per arm; `costs` are given once, beside the held-out set."""
    rounds = max(f["rounds"] for f in facts)
    table = Table(title=title, title_justify="left")
    names = (
        "arm",
        "n",
        first,
        *(f"round {r}" for r in range(1, rounds + 1)),
        f"last - {first} [95%]",
        *(("tokens", "minutes") if costs else ()),
    )
    for name in names:
        table.add_column(name, justify="left" if name == "arm" else "right")
    for f in facts:
        by_round = [f"{np.mean(a):.1%}\n({', '.join(f'{x:.1%}' for x in a)})" for a in f["accuracy"]]
        cost = [f"{f['generated_tokens']:,}", f"{f['minutes']:.0f}"] if costs else []
        gain = interval(f["last_minus_round_0"], signed=True)
        table.add_row(
            f["arm"], f"{f['seeds']} x {f['n']}", *by_round, *[""] * (rounds + 1 - len(by_round)), gain, *cost
        )
    console.print(table)


def _facts(arm: Arm) -> dict[str, Any]:
    keys: list[RoundKey] = [arm.first, *range(1, arm.rounds + 1)]
    rounds = [[round_facts(run, r) for run in arm.runs] for r in keys]
    if any(f is None for seeds in rounds for f in seeds):
        raise SelfloopError(
            f"{arm.name}: a run has neither round 0 nor its base model evaluated, so there is nothing to compare with"
        )
    sets = [
        name
        for name in rounds[0][0].get("sets", {})
        if all(name in f.get("sets", {}) for seeds in rounds for f in seeds)
    ]
    return {
        "arm": arm.name,
        "seeds": len(arm.runs),
        "rounds": arm.rounds,
        "first": round_title(arm.first),
        **_accuracy(arm, rounds),
        "generated_tokens": sum(
            f["generated_tokens"] for seeds in rounds for f in seeds if "generated_tokens" in f
        ),
        "minutes": sum(f["seconds"] for seeds in rounds for f in seeds) / 60,
        "sets": {
            name: _accuracy(arm, [[f["sets"][name] for f in seeds] for seeds in rounds], name)
            for name in sets
        },
    }


def _accuracy(arm: Arm, rounds: list[list[dict[str, Any]]], name: str | None = None) -> dict[str, Any]:
    """Return what is said of one set: its size, the accuracy by round and seed, and the last round minus the first model."""
    return {
        "n": rounds[0][0]["n"],
        "accuracy": [[f["greedy"]["mean"] for f in seeds] for seeds in rounds],
        "last_minus_round_0": pooled_difference(arm, arm.rounds or arm.first, arm.first, name=name)._asdict(),
    }
