"""Several runs side by side: one arm per recipe, averaged over its seeds."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from pipeline.console import console
from pipeline.display import round_title
from pipeline.errors import SelfloopError
from pipeline.ids import digest
from pipeline.rundir import RoundKey, RunDir, differences, may_change
from pipeline.statistics import Interval, Term, contrast, difference
from pipeline.store import files
from stages.reports.table import interval, measured, round_figures
from stages.rounds.measures import correct_by_task, documents_by_task, stage_name

LONGEST_SHOWN = 40  # characters of a setting in an arm's name
RESAMPLES = 10_000


class Arm(NamedTuple):
    """Runs whose recipes differ only in the seed and in settings that affect no outcome.

    `rounds` is their last evaluated round; `first` is the baseline: round 0, else the base model.
    """

    name: str
    runs: list[RunDir]
    rounds: int
    first: RoundKey


def arms(runs: Sequence[RunDir]) -> list[Arm]:
    """Group runs into arms, named after method, policy and training, and the settings in which arms differ.

    Raises SelfloopError when runs of one arm have different last rounds.
    """
    groups: dict[str, list[RunDir]] = {}
    for run in runs:
        groups.setdefault(_title(run), []).append(run)
    result = []
    for name, members in (arm for group in groups.items() for arm in _apart(*group)):
        last = [
            max((r for r in m.rounds() if isinstance(r, int) and files.exists(m.evaluation(r))), default=0)
            for m in members
        ]
        if len(set(last)) > 1:
            states = ", ".join(f"{m.root} round {n}" for m, n in zip(members, last, strict=True))
            raise SelfloopError(f"{name}: the runs have different last rounds: {states}")
        first: RoundKey = 0 if all(files.exists(m.evaluation(0)) for m in members) else "base"
        result.append(Arm(name, members, last[0], first))
    return result


def _title(run: RunDir) -> str:
    recipe = run.recipe()
    arm = f" {recipe.method['arm']}" if "arm" in recipe.method else ""
    real = "" if recipe.accumulate.keep_real else ", without real data"
    kept = f", keeping rounds {recipe.accumulate.keep_rounds}" if recipe.accumulate.keep_rounds else ""
    kind = "" if recipe.train.kind == "sft" else f", {recipe.train.kind}"
    start = "" if recipe.train.start == "base" else ", continued"
    return f"{recipe.method['name']}{arm}, {recipe.accumulate.policy}{real}{kept}{kind}{start}"


def _apart(name: str, runs: list[RunDir]) -> Iterator[tuple[str, list[RunDir]]]:
    """Yield the arms of a group: recipes equal but for the seed, named after the settings that differ."""
    recipes = [run.recipe().model_dump(mode="json") for run in runs]
    changed = {key for recipe in recipes for key, *_ in differences(recipes[0], recipe)}
    changed -= {"name", "seed", "evaluate.base_model"}
    keys = sorted(key for key in changed if not may_change(key, runs[0].recipe()))
    by_name: dict[str, list[RunDir]] = {}
    for run, recipe in zip(runs, recipes, strict=True):
        by_name.setdefault(", ".join([name, *(f"{key} {_shown(recipe, key)}" for key in keys)]), []).append(
            run
        )
    yield from by_name.items()


def _shown(recipe: dict[str, Any], key: str) -> str:
    value: Any = recipe
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... ({digest(value)[:6]})"


def pooled_difference(arm: Arm, new: RoundKey, old: RoundKey, name: str | None = None) -> Interval:
    """Return accuracy in round `new` minus round `old`, averaged over the arm's runs, with a 95% interval.

    Measured on the held-out set, or on the evaluation set `name`, over the questions of both rounds. The
    interval (statistics.difference) covers other questions, or documents, not other seeds: three seeds are
    too few to resample, so look at their single results for that.
    """
    terms = []
    for run in arm.runs:
        before, after = correct_by_task(run, old, name), correct_by_task(run, new, name)
        both = before.keys() & after.keys()
        terms += [
            Term(sign / len(arm.runs), {i: right[i] for i in both})
            for sign, right in ((1, after), (-1, before))
        ]
    return difference(terms, RESAMPLES, clusters=_documents(arm.runs, new, name))


def arm_difference(arm: Arm, other: Arm, round_: RoundKey, name: str | None = None) -> dict[str, Any] | None:
    """Return the accuracy of `arm` minus that of `other` in one round, paired by question, as `mean`, `low`,
    `high` (95%), `p` and `n`, the questions that both were asked; None if there are none.
    """
    answers = [[correct_by_task(run, round_, name) for run in one.runs] for one in (arm, other)]
    both = set.intersection(*({i for right in runs for i in right} for runs in answers))
    if not both:
        return None
    terms = [
        Term(sign / len(runs), {i: value for i, value in right.items() if i in both})
        for sign, runs in zip((1, -1), answers, strict=True)
        for right in runs
    ]
    found = contrast(terms, RESAMPLES, clusters=_documents([*arm.runs, *other.runs], round_, name))
    return {**found._asdict(), "n": len(both)}


def _documents(runs: Sequence[RunDir], round_: RoundKey, name: str | None) -> dict[str, str]:
    """Return the document of each question in any of the runs; {} unless every question has one."""
    each = [documents_by_task(run, round_, name) for run in runs]
    return {i: document for one in each for i, document in one.items()} if all(each) else {}


def compare(runs: Sequence[RunDir]) -> list[dict[str, Any]]:
    """Return the figures of each arm, for the held-out set and under `sets` for the others: accuracy by round
    and seed, last round minus baseline, and `against`, its difference from each arm named before it.
    """
    found: list[dict[str, Any]] = []
    for i, arm in enumerate(compared := arms(runs)):
        found.append(_summary(arm, compared[:i]))
    return found


def measured_by(summaries: Sequence[dict[str, Any]]) -> str:
    """Return what the arms' evaluations measure: more than one name if they differ."""
    return " or ".join(dict.fromkeys(f["measured"] for f in summaries))


def print_comparison(summaries: Sequence[dict[str, Any]]) -> None:
    """Print a line per arm for each evaluation set, and the arms against each other."""
    first = "round 0" if all(f["first"] == "round 0" for f in summaries) else "start"
    number = measured_by(summaries)
    _print(f"held-out {number}: mean over seeds (each seed)", summaries, first, with_cost=True)
    _print_against("held-out", summaries)
    for name in dict.fromkeys(name for f in summaries for name in f["sets"]):
        of_set = [{**f, **f["sets"][name]} for f in summaries if name in f["sets"]]
        _print(f"{name}: {number}: mean over seeds (each seed)", of_set, first)
        _print_against(name, of_set)


def _print_against(name: str, summaries: Sequence[dict[str, Any]]) -> None:
    pairs = [(f["arm"], against) for f in summaries for against in f["against"] if against["rounds"]]
    if not pairs:
        return
    rounds = sorted({r for _, against in pairs for r in against["rounds"]}, key=int)
    table = Table(title=f"{name}: arm against arm, paired by question [95%]", title_justify="left")
    for column in ("arm", "against"):
        table.add_column(column)
    for r in rounds:
        table.add_column(f"round {r}", justify="right")
    for arm, against in pairs:
        each = (against["rounds"].get(r) for r in rounds)
        table.add_row(arm, against["arm"], *(interval(one, signed=True) if one else "" for one in each))
    console.print(table)


def _print(title: str, summaries: Sequence[dict[str, Any]], first: str, with_cost: bool = False) -> None:
    rounds = max(f["rounds"] for f in summaries)
    table = Table(title=title, title_justify="left")
    table.add_column("arm")
    names = ["n", first, *(f"round {r}" for r in range(1, rounds + 1)), f"last - {first} [95%]"]
    for name in (*names, *(("tokens", "minutes") if with_cost else ())):
        table.add_column(name, justify="right")
    for f in summaries:
        by_round = [f"{np.mean(a):.1%}\n({', '.join(f'{x:.1%}' for x in a)})" for a in f["accuracy"]]
        by_round += [""] * (rounds + 1 - len(by_round))
        cost = [f"{f['generated_tokens']:,}", f"{f['minutes']:.0f}"] if with_cost else []
        gain = interval(f["last_minus_round_0"], signed=True)
        table.add_row(f["arm"], f"{f['seeds']} x {f['n']}", *by_round, gain, *cost)
    console.print(table)


def _summary(arm: Arm, before: Sequence[Arm]) -> dict[str, Any]:
    keys: list[RoundKey] = [arm.first, *range(1, arm.rounds + 1)]
    rounds = [[f for run in arm.runs if (f := round_figures(run, r))] for r in keys]
    every = [f for seeds in rounds for f in seeds]
    if len(every) < len(keys) * len(arm.runs):
        raise SelfloopError(
            f"{arm.name}: neither round 0 nor the base model of a run is evaluated: there is no baseline."
        )
    sets = [name for name in every[0].get("sets", {}) if all(name in f.get("sets", {}) for f in every)]
    return {
        "arm": arm.name,
        "seeds": len(arm.runs),
        "rounds": arm.rounds,
        "first": round_title(arm.first),
        "measured": measured(arm.runs[0]),
        **_accuracy(arm, before, rounds),
        "generated_tokens": sum(f.get("generated_tokens", 0) for f in every),
        "minutes": sum(f["seconds"] for f in every) / 60,
        "sets": {
            name: _accuracy(arm, before, [[f["sets"][name] for f in seeds] for seeds in rounds], name)
            for name in sets
        },
    }


def _accuracy(
    arm: Arm, before: Sequence[Arm], rounds: list[list[dict[str, Any]]], name: str | None = None
) -> dict[str, Any]:
    """Return one set's size, accuracy by round and seed, last round minus baseline, and the differences from
    the arms `before` in every round that both have.
    """
    return {
        "n": rounds[0][0]["n"],
        "accuracy": [[f["greedy"]["mean"] for f in seeds] for seeds in rounds],
        "last_minus_round_0": pooled_difference(arm, arm.rounds or arm.first, arm.first, name)._asdict(),
        "against": [{"arm": other.name, "rounds": _by_round(arm, other, name)} for other in before],
    }


def _by_round(arm: Arm, other: Arm, name: str | None) -> dict[str, dict[str, Any]]:
    """Return arm_difference by round, for the rounds from 1 on in which both arms were asked `name`."""
    stage = stage_name(name)
    found = {}
    for r in range(1, min(arm.rounds, other.rounds) + 1):
        asked = all(run.manifest(run.stage(r, stage)) for run in (*arm.runs, *other.runs))
        if asked and (between := arm_difference(arm, other, r, name)):
            found[str(r)] = between
    return found
