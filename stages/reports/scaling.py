"""Accuracy against tokens: the points of several runs, and two curves through them with the error each makes on points it has not seen.

The paper describes its curve by three exponentials (seven free parameters); a straight line in the logarithm of the tokens has two.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import SelfloopError
from pipeline.rundir import RoundKey, RunDir
from pipeline.stage import TRAIN
from pipeline.statistics import Interval, paired_difference
from pipeline.store import files
from pipeline.store.files import atomic_write
from stages.rounds.measures import correct_by_task, documents_by_task

UNTRAINED = "untrained"
_TIMES = 28  # decay times that are tried
Curve = Callable[[np.ndarray], np.ndarray]
Model = tuple[RunDir, RoundKey]


class Point(NamedTuple):
    """One model: what it was trained on, its accuracy with its 95% interval, and how that differs from the untrained model's and another's."""

    arm: str
    tokens: int  # different tokens of text it was trained on; 0: the untrained model
    accuracy: float
    low: float
    high: float
    perplexity: float | None
    budget: int | None = None  # method.token_budget
    passes: float = 0.0  # how often it saw them
    replay_share: float = 0.0  # of the blocks it was trained on
    over_untrained: Interval | None = None
    over_first: Interval | None = None  # over the first of the runs that are compared


class Fit(NamedTuple):
    """A curve through points, what it is made of, and its error (root mean square) on each point left out in turn; None if too few."""

    curve: Curve
    parameters: dict[str, Any]
    held_out_error: float | None


def points(runs: Sequence[RunDir]) -> list[Point]:
    """Return the point of each run's last evaluated round, and the untrained model's (once). Raises SelfloopError for a run without CPT.

    Differences are paired: of the answers to the same questions, with documents resampled where the questions name theirs.
    """
    bases: list[Model] = [(run, "base") for run in runs if files.exists(run.evaluation("base"))]
    models: list[Model] = [(run, _last_round(run)) for run in runs]
    untrained = dict.fromkeys(
        _measured(base, UNTRAINED, 0) for base in bases
    )  # as a rule it was evaluated alike in all of them
    trained = dict.fromkeys(_trained(model, bases, models[0]) for model in models)
    return [*untrained, *sorted(trained, key=lambda p: (p.arm, p.tokens))]


def _trained(model: Model, bases: Sequence[Model], first: Model) -> Point:
    run, round_ = model
    method, packing = (
        run.recipe().method,
        files.read_json(files.join(run.stage(round_, TRAIN), "train.json"))["shares"]["packing"],
    )
    seen = (packing["blocks"] - packing["blocks_not_seen"]) * packing["block_tokens"]
    return _measured(model, method.get("arm", method["name"]), min(packing["tokens"], seen))._replace(
        budget=method.get("token_budget"),
        passes=packing["passes"],
        replay_share=packing["replay_share"],
        over_untrained=next((d for base in bases if (d := _difference(model, base))), None),
        over_first=None if model == first else _difference(model, first),
    )


def _last_round(run: RunDir) -> int:
    rounds = [r for r in run.rounds() if isinstance(r, int) and files.exists(run.evaluation(r))]
    if run.recipe().train.kind != "cpt" or not rounds:
        raise SelfloopError(
            f"{run.root}: expected a run with train.kind cpt, and a round of it that is evaluated."
        )
    return rounds[-1]


def _measured(model: Model, arm: str, tokens: int) -> Point:
    facts = files.read_json(model[0].evaluation(model[1]))
    greedy = facts["greedy"]
    return Point(
        arm,
        tokens,
        greedy["mean"],
        greedy["low"],
        greedy["high"],
        facts.get("replay_perplexity", {}).get("perplexity"),
    )


def _difference(model: Model, other: Model) -> Interval | None:
    """Return how much more the first model answers rightly; None where they were not asked the same questions."""
    new, old = correct_by_task(*model), correct_by_task(*other)
    if new.keys() != old.keys():
        return None
    recipe = model[0].recipe()
    return paired_difference(old, new, recipe.evaluate.bootstrap, recipe.seed, documents_by_task(*model))


def log_line(x: Sequence[float], y: Sequence[float]) -> Fit:
    """Return the straight line in log x, by least squares over the points with x > 0; there have to be two."""
    xs, ys = _positive(x, y)
    return Fit(*_line(xs, ys), _held_out(_line, xs, ys, 2))


def exponentials(x: Sequence[float], y: Sequence[float], terms: int = 3) -> Fit:
    """Return y = a - sum of b_i exp(-x / t_i), b_i >= 0, by least squares: a and b_i exactly, t_i on a grid.

    Fewer terms than asked for are taken when the points cannot tell so many apart: at most (points - 1) / 2. Its held-out error is
    that on the points with x > 0, as `log_line` has it, so that the two can be compared.
    """
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)

    def fit(a: np.ndarray, b: np.ndarray) -> tuple[Curve, dict[str, Any]]:
        return _mixture(a, b, min(terms, (len(a) - 1) // 2), xs)

    return Fit(*fit(xs, ys), _held_out(fit, xs, ys, 3))


def _positive(x: Sequence[float], y: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return xs[xs > 0], ys[xs > 0]


def _line(x: np.ndarray, y: np.ndarray) -> tuple[Curve, dict[str, Any]]:
    slope, start = np.polyfit(np.log(x), y, 1)
    return lambda at: start + slope * np.log(at), {"per_e_fold": float(slope), "at_one_token": float(start)}


def _mixture(x: np.ndarray, y: np.ndarray, terms: int, range_of: np.ndarray) -> tuple[Curve, dict[str, Any]]:
    steps = np.diff(np.unique(range_of))
    if not len(steps):
        return lambda at: y.mean() + 0 * np.asarray(at, dtype=float), {"limit": float(y.mean()), "terms": []}
    grid = np.geomspace(steps.min() / 3, np.ptp(range_of) * 10, _TIMES)
    best: tuple[float, np.ndarray, np.ndarray] = (
        np.inf,
        np.array([y.mean(), 0.0]),
        grid[:1],
    )  # no curve that rises: the mean
    for count in range(1, max(1, terms) + 1):
        times = np.array(list(combinations(grid, count)))
        falling = -np.exp(-x[None, :, None] / times[:, None, :])
        designs = np.concatenate([np.ones((*falling.shape[:2], 1)), falling], axis=2)
        weights = np.linalg.pinv(designs) @ y
        errors = (((designs @ weights[..., None])[..., 0] - y) ** 2).sum(axis=1)
        errors[(weights[:, 1:] < 0).any(axis=1)] = np.inf
        i = int(errors.argmin())
        if errors[i] < best[0] * (1 - 1e-9):
            best = (float(errors[i]), weights[i], times[i])
    _, weights, times = best
    terms_found = [{"b": float(b), "time": float(t)} for b, t in zip(weights[1:], times, strict=True)]
    return lambda at: weights[0] - np.exp(-np.asarray(at, dtype=float)[..., None] / times) @ weights[1:], {
        "limit": float(weights[0]),
        "terms": terms_found,
    }


def _held_out(
    fit: Callable[[np.ndarray, np.ndarray], tuple[Curve, dict[str, Any]]],
    x: np.ndarray,
    y: np.ndarray,
    least: int,
) -> float | None:
    if len(x) <= least:
        return None
    errors = []
    for i in np.flatnonzero(x > 0):
        curve, _ = fit(np.delete(x, i), np.delete(y, i))
        errors.append(float(curve(x[i : i + 1])[0] - y[i]))
    return float(np.sqrt(np.mean(np.square(errors))))


def fits(found: Sequence[Point]) -> dict[str, dict[str, Fit]]:
    """Return both curves for each arm that has points enough: three different numbers of tokens. An arm that has seen its whole corpus at
    every budget has one. Runs of one budget, such as seeds, are one point, their mean."""
    untrained = [p for p in found if p.arm == UNTRAINED]
    made = {}
    for arm in dict.fromkeys(p.arm for p in found if p.arm != UNTRAINED):
        by_budget: dict[int, list[Point]] = {}
        for p in (p for p in found if p.arm == arm):
            by_budget.setdefault(p.budget or p.tokens, []).append(p)
        groups = [*([untrained] if untrained else []), *by_budget.values()]
        x, y = (
            [float(np.mean([getattr(p, name) for p in group])) for group in groups]
            for name in ("tokens", "accuracy")
        )
        if len({count for count in x if count}) >= 3:
            made[arm] = {"exponentials": exponentials(x, y), "log_line": log_line(x, y)}
    return made


def draw(found: Sequence[Point], curves: dict[str, dict[str, Fit]], target: str) -> None:
    """Write the plot as a PNG: points with their intervals, both curves of each arm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, no display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(
        xlabel="tokens of text trained on (different ones)", ylabel="closed-book accuracy", xscale="symlog"
    )
    least = min((p.tokens for p in found if p.tokens), default=1)
    axes.set_xscale("symlog", linthresh=least)
    for i, arm in enumerate(dict.fromkeys(p.arm for p in found)):
        ps = [p for p in found if p.arm == arm]
        spread = [[p.accuracy - p.low for p in ps], [p.high - p.accuracy for p in ps]]
        axes.errorbar(
            [p.tokens for p in ps],
            [p.accuracy for p in ps],
            yerr=spread,
            fmt="o",
            color=f"C{i}",
            capsize=3,
            label=arm,
        )
        at = np.geomspace(least, max(p.tokens for p in ps) or least, 200)
        for name, style in (("exponentials", "-"), ("log_line", ":")) if arm in curves else ():
            fit = curves[arm][name]
            error = "" if fit.held_out_error is None else f", held-out error {fit.held_out_error:.1%}"
            axes.plot(
                at, fit.curve(at), style, color=f"C{i}", label=f"{arm}: {name.replace('_', ' ')}{error}"
            )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with atomic_write(target) as file:
        figure.savefig(file, format="png", dpi=120)
