"""What an arena found: arms side by side over the same questions and seeds, with what each of them took.

The arms are compared in the last round that all of them have finished with a seed, over the seeds with which
all have. Differences are paired by question, over all seeds at once (pipeline.statistics.contrast); p-values
are corrected for the number of comparisons (Holm), those with the control and those between the other arms
apart, and for each evaluation set apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from pipeline import registry
from pipeline.config import Arena, Recipe
from pipeline.display import round_title
from pipeline.rundir import RoundKey, RunDir
from pipeline.stage import PROPOSE, STAGES, TRAIN, TRAIN_SFT
from pipeline.statistics import holm
from pipeline.store import files
from stages.reports.arena_plot import draw
from stages.reports.arena_tables import markdown
from stages.reports.comparison import Arm, arm_difference, pooled_difference
from stages.reports.flips import between
from stages.reports.table import measured, round_figures
from stages.rounds.evaluation import verifier_of
from stages.rounds.measures import stage_name

FLIPS = 20  # questions listed of those won or lost
COSTS = ("sampled_tokens", "trained_tokens", "steps", "minutes")

Runs = Mapping[str, Mapping[int, RunDir]]
Figures = dict[str, Any]


def figures(arena: Arena, runs: Runs, pilots: Figures | None, state: Figures) -> Figures:
    """Return everything that tables and files show; `arms` is empty as long as no round can be compared.

    `runs` are by arm and seed, `pilots` what equal.json holds, `state` is how the arena ended.
    """
    last = {arm: {s: _last_round(run) for s, run in by_seed.items()} for arm, by_seed in runs.items()}
    begun = [arm for arm in runs if any(last[arm].values())]
    reached = {s: min((last[arm][s] for arm in begun), default=0) for s in arena.seeds}
    round_ = max(reached.values())
    seeds = [s for s in arena.seeds if round_ and reached[s] == round_]
    arms = [_arm(arm, [runs[arm][s] for s in seeds], round_) for arm in begun] if seeds else []
    control = next((arm for arm in arms if arm.name == arena.against), None)
    described = [_described(arm, control, arena) for arm in arms]
    return {
        "name": arena.name,
        "control": arena.against,
        "seeds": arena.seeds,
        "compared": {"round": round_, "seeds": seeds},
        "measured": measured(arms[0].runs[0]) if arms else "accuracy",
        "equal": {"what": arena.equal, "tolerance": arena.tolerance, "pilots": pilots},
        "arms": described,
        "comparisons": _comparisons(arms, control, round_),
        "sets": {
            name: {"comparisons": _comparisons(arms, control, round_, name)}
            for name in _common_sets(arms, round_)
        },
        "notes": list(_notes(arena, runs, begun, seeds, round_)),
        **state,
    }


def write(found: Figures, folder: str) -> None:
    """Write arena.json, arena.md and, with something to draw, arena.png."""
    files.write_json(files.join(folder, "arena.json"), found)
    drawn = bool(found["arms"])
    if drawn:
        draw(found, files.join(folder, "arena.png"))
    files.write_bytes(files.join(folder, "arena.md"), markdown(found, drawn).encode())


def _last_round(run: RunDir) -> int:
    if not run.exists():
        return 0
    return max((r for r in run.rounds() if isinstance(r, int) and files.exists(run.evaluation(r))), default=0)


def _arm(name: str, runs: list[RunDir], round_: int) -> Arm:
    has_round_0 = all(files.exists(run.evaluation(0)) for run in runs)
    return Arm(name, runs, round_, 0 if has_round_0 else "base")


def _described(arm: Arm, control: Arm | None, arena: Arena) -> Figures:
    """Return an arm's accuracy and costs by round, its gain over its start, and what it won and lost."""
    rounds = [r for r in (arm.first, *range(1, arm.rounds + 1)) if _evaluated(arm, r)]
    by_round = [_of_round(arm, r) for r in rounds]
    total = {cost: sum(_costs(arm, r)[cost] for r in range(1, arm.rounds + 1)) for cost in COSTS}
    found: Figures = {
        "arm": arm.name,
        "settings": arena.arms[arm.name],
        "runs": [run.root for run in arm.runs],
        "method": arm.runs[0].recipe().method["name"],
        "n": by_round[-1]["n"],
        "by_round": by_round,
        "costs": total,
        "start": round_title(arm.first),
        "gain": None,
    }
    if arm.first in rounds:
        found["gain"] = pooled_difference(arm, arm.rounds, arm.first)._asdict()
        found["flips_from_start"] = _flips([((run, arm.first), (run, arm.rounds)) for run in arm.runs])
    if control and control.name != arm.name:
        pairs = zip(control.runs, arm.runs, strict=True)
        found["flips_from_control"] = _flips([((a, arm.rounds), (b, arm.rounds)) for a, b in pairs])
        found["ratios"] = _ratios(total, control)
        ratio = found["ratios"].get(arena.equal)
        found["unequal"] = ratio is not None and abs(ratio - 1) > arena.tolerance
    return found


def _ratios(total: Figures, control: Arm) -> Figures:
    """Return an arm's costs as multiples of the control's; None where that has none."""
    own = {cost: sum(_costs(control, r)[cost] for r in range(1, control.rounds + 1)) for cost in COSTS}
    return {cost: total[cost] / own[cost] if own[cost] else None for cost in COSTS}


def _of_round(arm: Arm, round_: RoundKey) -> Figures:
    """Return a round's accuracy by seed, on the held-out set and the others, the method's own measures by
    seed, and the costs up to it.
    """
    each = [f for run in arm.runs if (f := round_figures(run, round_))]
    means = [f["greedy"]["mean"] for f in each]
    sets = [name for name in each[0].get("sets", {}) if all(name in f.get("sets", {}) for f in each)]
    upto = range(0, round_ + 1) if isinstance(round_, int) else ()
    return {
        "round": round_,
        "n": each[0]["n"],
        "accuracy": sum(means) / len(means),
        "by_seed": means,
        "readable": _mean([f["parsed"] / f["n"] for f in each if f.get("parsed") is not None and f["n"]]),
        "sets": {name: _mean([f["sets"][name]["greedy"]["mean"] for f in each]) for name in sets},
        "measures": {
            name: [f["measures"][name]["mean"] for f in each]
            for name in each[0].get("measures", {})
            if all(name in f.get("measures", {}) for f in each)
        },
        "costs_so_far": {cost: sum(_costs(arm, r)[cost] for r in upto) for cost in COSTS},
    }


def _costs(arm: Arm, round_: int) -> dict[str, float]:
    """Return what a round took, as a mean over the arm's runs. What was taken over from another arm counts in
    full: it is what the arm would take alone.
    """
    each = []
    for run in arm.runs:
        stages = [m for name in (PROPOSE, *STAGES) if (m := run.manifest(run.stage(round_, name)))]
        paths = [files.join(run.stage(round_, name), "train.json") for name in (TRAIN_SFT, TRAIN)]
        trained = [files.read_json(path) for path in paths if files.exists(path)]
        shown = round_figures(run, round_)
        each.append(
            (
                sum(m.tokens.completion for m in stages),
                sum(t["tokens"] for t in trained),
                sum(t["steps"] for t in trained),
                (shown["seconds"] if shown else 0.0) / 60,
            )
        )
    return {
        cost: sum(values) / len(each) for cost, values in zip(COSTS, zip(*each, strict=True), strict=True)
    }


def _comparisons(
    arms: Sequence[Arm], control: Arm | None, round_: int, name: str | None = None
) -> list[Figures]:
    """Return every arm against the control, then the other arms against each other, each with `p_holm`."""
    others = [arm for arm in arms if arm is not control]
    against = [(arm, control) for arm in others] if control else []
    families = (against, [(b, a) for a, b in combinations(others, 2)])
    return [found for family in families for found in _corrected(family, round_, name)]


def _corrected(pairs: Sequence[tuple[Arm, Arm]], round_: int, name: str | None) -> Iterator[Figures]:
    found = []
    for arm, other in pairs:
        if one := arm_difference(arm, other, round_, name):
            seeds = [
                arm_difference(arm._replace(runs=[a]), other._replace(runs=[b]), round_, name)
                for a, b in zip(arm.runs, other.runs, strict=True)
            ]
            found.append(
                {"arm": arm.name, "against": other.name, **one, "by_seed": [s and s["mean"] for s in seeds]}
            )
    for one, p in zip(found, holm([one["p"] for one in found]), strict=True):
        yield {**one, "p_holm": p}


def _flips(pairs: Sequence[tuple[Any, Any]]) -> Figures:
    """Return the questions won and lost in all pairs of models, and some of those lost and won."""
    each = [between(old, new, FLIPS) for old, new in pairs]
    found: Figures = {name: sum(one[name] for one in each) for name in ("n", "won", "lost")}
    found["graded"] = any(one["graded"] for one in each)
    for name in ("lost_questions", "won_questions"):
        seen = {flip["task_id"]: flip for one in each for flip in one[name]}
        found[name] = list(seen.values())[:FLIPS]
    return found


def _common_sets(arms: Sequence[Arm], round_: int) -> list[str]:
    """Return the further evaluation sets that every run was asked."""
    if not arms:
        return []
    names = arms[0].runs[0].recipe().evaluate.sets
    every = [run for arm in arms for run in arm.runs]
    return [n for n in names if all(run.manifest(run.stage(round_, stage_name(n))) for run in every)]


def _evaluated(arm: Arm, round_: RoundKey) -> bool:
    return all(files.exists(run.evaluation(round_)) for run in arm.runs)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _judge(recipe: Recipe) -> Any:
    """Return what judges the answers in an evaluation."""
    verifier = verifier_of(recipe, None)
    return registry.resolve("verifier", verifier) if isinstance(verifier, str) else verifier


def _named(recipe: Recipe) -> str:
    verifier = verifier_of(recipe, None)
    return verifier if isinstance(verifier, str) else verifier.described()


def _notes(arena: Arena, runs: Runs, begun: list[str], seeds: list[int], round_: int) -> Iterator[str]:
    """Yield what a reader must know beside the tables."""
    if begun and (missing := [arm for arm in runs if arm not in begun]):
        yield f"Without {', '.join(missing)}: no round of theirs is finished yet."
    if seeds and (left := [s for s in arena.seeds if s not in seeds]):
        yield f"Without seed {', '.join(map(str, left))}: not all arms have finished round {round_} with it."
    recipes = {arm: runs[arm][seeds[0]].recipe() for arm in begun} if seeds else {}
    first = recipes.get(arena.against)
    for arm, recipe in recipes.items():
        if first and _judge(recipe) != _judge(first):
            yield (
                f"In evaluations, {_named(recipe)} judges the answers of {arm}, and {_named(first)} those of "
                f"{arena.against}: accuracy means the same only if these agree. One judge for all arms: "
                "set: {evaluate.verifier: NAME}"
            )
