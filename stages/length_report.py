"""What Self-Lengthen did to the lengths: lengths.txt and lengths.png in the run directory, from whatever rounds there are."""

import io
from collections.abc import Iterator
from statistics import fmean
from typing import Any, NamedTuple

from pipeline.methods import STAGES
from pipeline.rundir import RoundKey, RunDir
from pipeline.statistics import quantiles
from pipeline.store import files
from pipeline.store.manifest import Manifest
from stages.length_evaluation import LENGTH_SCORE, MEASURES
from stages.lengths import words
from stages.long_texts import problem, repetition_rate

TEXT, PICTURE = "lengths.txt", "lengths.png"
_QUANTILES = ("p10", "p25", "p50", "p75", "p90", "max", "mean")


class Texts(NamedTuple):
    """Texts of one kind, measured."""

    name: str
    measured: list[dict[str, Any]]

    @property
    def counts(self) -> list[int]:
        """The words of each."""
        return [t["words"] for t in self.measured]


def write(run: RunDir) -> None:
    """Write both files anew."""
    texts = [t for t in gather(run) if t.measured]
    if not texts:
        return
    files.write_bytes(run.path(TEXT), "\n".join([*_words(texts), *_scores(run), *_kept(run)]).encode())
    files.write_bytes(run.path(PICTURE), _draw(texts, run.recipe().name))


def gather(run: RunDir) -> Iterator[Texts]:
    """Yield the texts of a run in the order they came about: what each model writes when asked plainly, and what each round made."""
    for round_ in run.rounds():
        if isinstance(round_, int):
            if run.manifest(run.stage(round_, "generate")):
                yield Texts(f"round {round_}, drafts", [_measure(row.payload) for row in run.rows(run.stage(round_, "generate"))])
            if run.manifest(run.stage(round_, "verify")):
                yield Texts(f"round {round_}, extensions", [_measure(row.payload) for row in run.rows(run.stage(round_, "verify"))])
        if run.manifest(run.stage(round_, "evaluate")):
            rows = [row.payload for row in run.rows(run.stage(round_, "evaluate"))]
            yield Texts("base model" if round_ == "base" else f"model of round {round_}", [row["greedy"] for row in rows])
            yield Texts("base model, asked for longer", [row["control"] for row in rows if "control" in row])


def _measure(made: dict[str, Any]) -> dict[str, Any]:
    text = made["text"]
    why = problem(text, made["question"])
    return {"words": words(text), "problem": why and why[0], "repetition": repetition_rate(text)}


def _words(texts: list[Texts]) -> list[str]:
    """One line for each kind of texts."""
    width = max(len(t.name) for t in texts)
    lines = [f"{'words':<{width}}     n" + "".join(f"{name:>7}" for name in _QUANTILES) + "  pass rules  cut off  repetitive"]
    for t in texts:
        spread = quantiles(t.counts) | {"mean": fmean(t.counts)}
        numbers = "".join(f"{spread[name]:>7.0f}" for name in _QUANTILES)
        passes, cut, repetitive = (fmean(MEASURES[name](text) for text in t.measured) for name in ("passes rules", "cut off", "repetitive"))
        lines.append(f"{t.name:<{width}} {len(t.measured):>5}{numbers}{passes:>12.0%}{cut:>9.0%}{repetitive:>12.0%}")
    return [*lines, ""]


def _scores(run: RunDir) -> list[str]:
    """The length score of each set that asks for lengths, by model and kind of demand."""
    lines = []
    for round_ in run.rounds():
        found = files.read_json(run.evaluation(round_)) if files.exists(run.evaluation(round_)) else {}
        for name, measured in found.get("sets", {}).items():
            kinds = {k.removeprefix(LENGTH_SCORE): m["mean"] for k, m in measured.get("measures", {}).items() if k.startswith(LENGTH_SCORE)}
            if kinds:
                of_kinds, score = ", ".join(f"{kind} {value:.3f}" for kind, value in kinds.items()), measured["greedy"]
                lines.append(f"length score on {name}, {_model(round_)}: {score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}] ({of_kinds})")
    return [*lines, ""] if lines else []


def _model(round_: RoundKey) -> str:
    return "base model" if round_ == "base" else f"model of round {round_}"


def _kept(run: RunDir) -> list[str]:
    """What every filter of every round was given, and what it kept."""
    lines = []
    for round_ in run.rounds():
        for name in (*STAGES, "publish"):
            if isinstance(round_, int) and (manifest := run.manifest(run.stage(round_, name))):
                lines += [f"round {round_}, {line}" for line in _kept_in(name, manifest)]
    return ["kept of what came in", *lines, ""] if lines else []


def _kept_in(name: str, manifest: Manifest) -> Iterator[str]:
    refused = manifest.rows_dropped | manifest.rows_failed
    made = manifest.steps[0].rows_in if manifest.steps else manifest.rows_out
    if name == "generate":
        yield f"{name}: {manifest.rows_in} seeds, {made} drafts or instructions without one"
    elif name == "critique":
        yield f"{name}: {manifest.rows_in} drafts, {made} extensions tried"
    elif name != "publish":
        yield _line(name, manifest.rows_in, manifest.rows_in - sum(refused.values()), refused)
    for step in manifest.steps:
        yield _line(f"{name}, {step.name}", step.rows_in, step.rows_out, step.dropped)


def _line(name: str, rows_in: int, rows_out: int, dropped: dict[str, int]) -> str:
    reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(dropped.items(), key=lambda item: (-item[1], item[0])))
    return f"{name}: {rows_out} of {rows_in} ({rows_out / max(1, rows_in):.0%})" + (f"; dropped: {reasons}" if reasons else "")


def _draw(texts: list[Texts], title: str) -> bytes:
    """Return a PNG with a box for each kind of texts: quartiles, the whiskers at the tenths, and every text as a point."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, no display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.55 * len(texts) + 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="words", title=title)
    axes.boxplot([t.counts for t in texts], orientation="horizontal", tick_labels=[f"{t.name} ({len(t.counts)})" for t in texts], whis=(10, 90), showfliers=False)
    for at, t in enumerate(texts, 1):
        axes.plot(t.counts, [at] * len(t.counts), "|", color="C0", alpha=0.4)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.grid(axis="x", alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()
