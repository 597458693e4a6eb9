"""Accuracy against training tokens over several runs, with two fitted curves and their leave-one-out errors.

EntiGraph's paper describes its curve by three exponentials (seven free parameters); a straight line in the
logarithm of the tokens has two.
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
from stages.rounds.measures import correct_by_task, documents_by_task

UNTRAINED = "untrained"
_TIMES = 28  # decay times on the grid
Curve = Callable[[np.ndarray], np.ndarray]
Parameters = dict[str, Any]
Fitter = Callable[[np.ndarray, np.ndarray], tuple[Curve, Parameters]]
Model = tuple[RunDir, RoundKey]


class Point(NamedTuple):
    """One model: its training tokens, its accuracy with a 95% interval, and its gains over other models."""

    arm: str
    tokens: int  # distinct tokens of text it was trained on; 0 for the untrained model
    accuracy: float
    low: float
    high: float
    perplexity: float | None
    budget: int | None = None  # method.token_budget
    passes: float = 0.0  # over those tokens
    replay_share: float = 0.0  # of the blocks it was trained on
    over_untrained: Interval | None = None
    over_first: Interval | None = None  # over the first of the compared runs


class Fit(NamedTuple):
    """A curve, its parameters, and its root mean square error on each point left out (None if too few)."""

    curve: Curve
    parameters: Parameters
    held_out_error: float | None


def points(runs: Sequence[RunDir]) -> list[Point]:
    """Return the point of each run's last evaluated round, and the untrained model's.

    Gains are paired by question; documents are resampled where the questions name theirs. Raises
    SelfloopError for a run without continued pretraining.
    """
    bases: list[Model] = [(run, "base") for run in runs if files.exists(run.evaluation("base"))]
    models: list[Model] = [(run, last_round(run)) for run in runs]
    # As a rule all runs measured the same untrained model, which then is one point.
    untrained = dict.fromkeys(_measured(base, UNTRAINED, 0) for base in bases)
    trained = dict.fromkeys(_trained(model, bases, models[0]) for model in models)
    return [*untrained, *sorted(trained, key=lambda p: (p.arm, p.tokens))]


def _trained(model: Model, bases: Sequence[Model], first: Model) -> Point:
    run, round_ = model
    method = run.recipe().method
    packing = files.read_json(files.join(run.stage(round_, TRAIN), "train.json"))["shares"]["packing"]
    seen = (packing["blocks"] - packing["blocks_not_seen"]) * packing["block_tokens"]
    return _measured(model, method.get("arm", method["name"]), min(packing["tokens"], seen))._replace(
        budget=method.get("token_budget"),
        passes=packing["passes"],
        replay_share=packing["replay_share"],
        over_untrained=next((d for base in bases if (d := _difference(model, base))), None),
        over_first=None if model == first else _difference(model, first),
    )


def last_round(run: RunDir) -> int:
    """Return the last evaluated round of a run with continued pretraining; SelfloopError for others."""
    rounds = [r for r in run.rounds() if isinstance(r, int) and files.exists(run.evaluation(r))]
    if run.recipe().train.kind != "cpt" or not rounds:
        raise SelfloopError(f"{run.root}: expected a run with train.kind cpt and an evaluated round.")
    return rounds[-1]


def _measured(model: Model, arm: str, tokens: int) -> Point:
    facts = files.read_json(model[0].evaluation(model[1]))
    greedy, perplexity = facts["greedy"], facts.get("replay_perplexity", {}).get("perplexity")
    return Point(arm, tokens, greedy["mean"], greedy["low"], greedy["high"], perplexity)


def _difference(model: Model, other: Model) -> Interval | None:
    """Return the accuracy of `model` minus that of `other`; None if they answered different questions."""
    new, old = correct_by_task(*model), correct_by_task(*other)
    if new.keys() != old.keys():
        return None
    recipe = model[0].recipe()
    return paired_difference(old, new, recipe.evaluate.bootstrap, recipe.seed, documents_by_task(*model))


def log_line(x: Sequence[float], y: Sequence[float]) -> Fit:
    """Return the least-squares line in log x over the points with x > 0, of which there must be two."""
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    xs, ys = xs[xs > 0], ys[xs > 0]
    return Fit(*_line(xs, ys), _held_out(_line, xs, ys, 2))


def exponentials(x: Sequence[float], y: Sequence[float], terms: int = 3) -> Fit:
    """Return y = a - sum of b_i exp(-x / t_i), b_i >= 0, by least squares: a and b_i exactly, t_i on a grid.

    At most (points - 1) / 2 terms are fitted. As in `log_line`, only points with x > 0 are left out in turn,
    so that the two errors can be compared.
    """
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)

    def fit(a: np.ndarray, b: np.ndarray) -> tuple[Curve, Parameters]:
        return _mixture(a, b, min(terms, (len(a) - 1) // 2), xs)

    return Fit(*fit(xs, ys), _held_out(fit, xs, ys, 3))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[Curve, Parameters]:
    slope, start = np.polyfit(np.log(x), y, 1)
    return lambda at: start + slope * np.log(at), {"per_e_fold": float(slope), "at_one_token": float(start)}


def _mixture(x: np.ndarray, y: np.ndarray, terms: int, range_of: np.ndarray) -> tuple[Curve, Parameters]:
    steps = np.diff(np.unique(range_of))
    if not len(steps):
        return lambda at: y.mean() + 0 * np.asarray(at, dtype=float), {"limit": float(y.mean()), "terms": []}
    grid = np.geomspace(steps.min() / 3, np.ptp(range_of) * 10, _TIMES)
    # Where no curve rises, the mean.
    least, weights, times = np.inf, np.array([y.mean(), 0.0]), grid[:1]
    for count in range(1, max(1, terms) + 1):
        candidates = np.array(list(combinations(grid, count)))
        falling = -np.exp(-x[None, :, None] / candidates[:, None, :])
        designs = np.concatenate([np.ones((*falling.shape[:2], 1)), falling], axis=2)
        solutions = np.linalg.pinv(designs) @ y
        errors = (((designs @ solutions[..., None])[..., 0] - y) ** 2).sum(axis=1)
        errors[(solutions[:, 1:] < 0).any(axis=1)] = np.inf
        i = int(errors.argmin())
        if errors[i] < least * (1 - 1e-9):
            least, weights, times = float(errors[i]), solutions[i], candidates[i]
    return lambda at: weights[0] - np.exp(-np.asarray(at, dtype=float)[..., None] / times) @ weights[1:], {
        "limit": float(weights[0]),
        "terms": [{"b": float(b), "time": float(t)} for b, t in zip(weights[1:], times, strict=True)],
    }


def _held_out(fit: Fitter, x: np.ndarray, y: np.ndarray, least: int) -> float | None:
    if len(x) <= least:
        return None
    errors = []
    for i in np.flatnonzero(x > 0):
        curve, _ = fit(np.delete(x, i), np.delete(y, i))
        errors.append(float(curve(x[i : i + 1])[0] - y[i]))
    return float(np.sqrt(np.mean(np.square(errors))))


def fits(all_points: Sequence[Point]) -> dict[str, dict[str, Fit]]:
    """Return both curves for each arm that has at least three distinct token counts.

    Runs with the same budget, such as seeds, are averaged to one point. Arms that saw their whole corpus at
    every budget have one token count.
    """
    untrained = [p for p in all_points if p.arm == UNTRAINED]
    curves = {}
    for arm in dict.fromkeys(p.arm for p in all_points if p.arm != UNTRAINED):
        by_budget: dict[int, list[Point]] = {}
        for p in (p for p in all_points if p.arm == arm):
            by_budget.setdefault(p.budget or p.tokens, []).append(p)
        groups = [*([untrained] if untrained else []), *by_budget.values()]
        x = [float(np.mean([p.tokens for p in group])) for group in groups]
        y = [float(np.mean([p.accuracy for p in group])) for group in groups]
        if len({tokens for tokens in x if tokens}) >= 3:
            curves[arm] = {"exponentials": exponentials(x, y), "log_line": log_line(x, y)}
    return curves


def draw(all_points: Sequence[Point], curves: dict[str, dict[str, Fit]], target: str) -> None:
    """Write the plot as a PNG: points with their intervals, and both curves of each arm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, no display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(
        xlabel="distinct tokens of text trained on", ylabel="closed-book accuracy", xscale="symlog"
    )
    least = min((p.tokens for p in all_points if p.tokens), default=1)
    axes.set_xscale("symlog", linthresh=least)
    for i, arm in enumerate(dict.fromkeys(p.arm for p in all_points)):
        ps, color = [p for p in all_points if p.arm == arm], f"C{i}"
        x, y = [p.tokens for p in ps], [p.accuracy for p in ps]
        spread = [[p.accuracy - p.low for p in ps], [p.high - p.accuracy for p in ps]]
        axes.errorbar(x, y, yerr=spread, fmt="o", color=color, capsize=3, label=arm)
        at = np.geomspace(least, max(x) or least, 200)
        for name, style in (("exponentials", "-"), ("log_line", ":")) if arm in curves else ():
            fit = curves[arm][name]
            error = "" if fit.held_out_error is None else f", held-out error {fit.held_out_error:.1%}"
            label = f"{arm}: {name.replace('_', ' ')}{error}"
            axes.plot(at, fit.curve(at), style, color=color, label=label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with files.atomic_write(target) as file:
        figure.savefig(file, format="png", dpi=120)
