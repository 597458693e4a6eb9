"""What Self-Lengthen did to the lengths: lengths.txt and lengths.png in the run directory, from whatever rounds there are."""

import io
from collections.abc import Iterator
from statistics import fmean
from typing import Any, NamedTuple

from pipeline.rundir import RoundKey, RunDir
from pipeline.stage import STAGES
from pipeline.statistics import bootstrap, quantiles
from pipeline.store import files, parts
from pipeline.store.manifest import Manifest
from stages.methods.self_lengthen.length_evaluation import LENGTH_SCORE, MEASURES
from stages.methods.self_lengthen.lengths import words
from stages.methods.self_lengthen.long_texts import problem, repetition_rate
from stages.rounds.published_rows import TOO_LONG

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
    files.write_bytes(
        run.path(TEXT), "\n".join([*_words(texts), *_differences(run), *_scores(run), *_kept(run)]).encode()
    )
    files.write_bytes(run.path(PICTURE), _draw(texts, run.recipe().name))


def gather(run: RunDir) -> Iterator[Texts]:
    """Yield the texts of a run in the order they came about: what each model writes when asked plainly, and what each round made.

    The drafts are all that were written last for an instruction, whatever a filter made of them; then those that have an extension.
    """
    for round_ in run.rounds():
        if isinstance(round_, int):
            if run.manifest(made := run.stage(round_, "generate")):
                drafts = (
                    row.payload
                    for path in files.glob(files.join(made, "rows"), "part-*.arrow")
                    for row in parts.read_rows(path)
                )
                yield Texts(
                    f"round {round_}, drafts",
                    [_measure(d, d["text"], d["finish_reason"]) for d in drafts if d["completion_tokens"]],
                )
            if run.manifest(made := run.stage(round_, "verify")):
                rows = [row.payload for row in run.rows(made)]
                yield Texts(f"round {round_}, extended drafts", [_measure(row, row["draft"]) for row in rows])
                yield Texts(f"round {round_}, extensions", [_measure(row, row["text"]) for row in rows])
        texts = _evaluated(run, round_)
        yield Texts(_model(round_), list(texts["greedy"].values()))
        yield Texts(f"{_model(round_)}, asked for longer", list(texts["control"].values()))


def _evaluated(run: RunDir, round_: RoundKey) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what a model wrote for the held-out instructions: plainly asked (greedy) and asked for longer (control), by task."""
    rows = (
        [row.payload for row in run.rows(folder)]
        if run.manifest(folder := run.stage(round_, "evaluate"))
        else []
    )
    return {
        kind: {row["task_id"]: row[kind] for row in rows if kind in row} for kind in ("greedy", "control")
    }


def _measure(made: dict[str, Any], text: str, finish_reason: str = "stop") -> dict[str, Any]:
    why = problem(text, made["question"], finish_reason)
    return {"words": words(text), "problem": why and why[0], "repetition": repetition_rate(text)}


def _words(texts: list[Texts]) -> list[str]:
    """One line for each kind of texts."""
    width = max(len(t.name) for t in texts)
    names = ("passes rules", "cut off", "repetitive", "repetition rate")
    lines = [
        f"{'words':<{width}}     n"
        + "".join(f"{name:>7}" for name in _QUANTILES)
        + "".join(f"  {name}" for name in names)
    ]
    for t in texts:
        spread = quantiles(t.counts) | {"mean": fmean(t.counts)}
        numbers = "".join(f"{spread[name]:>7.0f}" for name in _QUANTILES)
        shares = "".join(
            f"{fmean(MEASURES[name](text) for text in t.measured):>{len(name) + 2}.1%}" for name in names
        )
        lines.append(f"{t.name:<{width}} {len(t.measured):>5}{numbers}{shares}")
    return [*lines, ""]


def _differences(run: RunDir) -> list[str]:
    """How many words more each trained model writes than the base model does, asked plainly and asked for longer; paired by instruction."""
    lines, recipe = [], run.recipe()
    first = _evaluated(run, "base")
    for round_ in run.rounds():
        after = _evaluated(run, round_)["greedy"] if isinstance(round_, int) else {}
        for name, before in (
            ("base model", first["greedy"]),
            ("base model, asked for longer", first["control"]),
        ):
            both = sorted(after.keys() & before.keys())
            if both:
                more = bootstrap(
                    [after[i]["words"] - before[i]["words"] for i in both],
                    recipe.evaluate.bootstrap,
                    recipe.seed,
                )
                lines.append(
                    f"words, {_model(round_)} minus {name}: {more.mean:+.0f} [{more.low:+.0f}, {more.high:+.0f}] (n = {len(both)})"
                )
    return [*lines, ""] if lines else []


def _scores(run: RunDir) -> list[str]:
    """The length score of each set that asks for lengths, by model and kind of demand."""
    lines = []
    for round_ in run.rounds():
        found = files.read_json(run.evaluation(round_)) if files.exists(run.evaluation(round_)) else {}
        for name, measured in found.get("sets", {}).items():
            kinds = {
                k.removeprefix(LENGTH_SCORE): m["mean"]
                for k, m in measured.get("measures", {}).items()
                if k.startswith(LENGTH_SCORE)
            }
            if kinds:
                of_kinds, score = (
                    ", ".join(f"{kind} {value:.3f}" for kind, value in kinds.items()),
                    measured["greedy"],
                )
                lines.append(
                    f"length score on {name}, {_model(round_)}: {score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}] ({of_kinds})"
                )
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
                if name == "publish" and (
                    long := sum(
                        len(row.payload.get(TOO_LONG, ())) for row in run.rows(run.stage(round_, name))
                    )
                ):
                    lines.append(
                        f"round {round_}, publish: {long} examples too long to train on, of rows that have another"
                    )
    return ["kept of what came in", *lines, ""] if lines else []


def _kept_in(name: str, manifest: Manifest) -> Iterator[str]:
    refused = manifest.rows_dropped | manifest.rows_failed
    made = manifest.steps[0].rows_in if manifest.steps else manifest.rows_out
    if name == "generate":
        yield f"{name}: {manifest.rows_in} seeds, {made} drafts or instructions without one{_reasons(refused)}"
    elif name == "critique":
        yield f"{name}: {manifest.rows_in} drafts, {made} extensions tried{_reasons(refused)}"
    elif name != "publish":
        yield _line(name, manifest.rows_in, manifest.rows_in - sum(refused.values()), refused)
    for step in manifest.steps:
        yield _line(f"{name}, {step.name}", step.rows_in, step.rows_out, step.dropped)


def _line(name: str, rows_in: int, rows_out: int, dropped: dict[str, int]) -> str:
    return f"{name}: {rows_out} of {rows_in} ({rows_out / max(1, rows_in):.0%}){_reasons(dropped)}"


def _reasons(dropped: dict[str, int]) -> str:
    reasons = ", ".join(
        f"{reason} {n}" for reason, n in sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    )
    return f"; dropped: {reasons}" if reasons else ""


def _draw(texts: list[Texts], title: str) -> bytes:
    """Return a PNG with a box for each kind of texts: quartiles, the whiskers at the tenths, and every text as a point."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # without pyplot: no global state, no display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.55 * len(texts) + 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="words", title=title)
    axes.boxplot(
        [t.counts for t in texts],
        orientation="horizontal",
        tick_labels=[f"{t.name} ({len(t.counts)})" for t in texts],
        whis=(10, 90),
        showfliers=False,
    )
    for at, t in enumerate(texts, 1):
        axes.plot(t.counts, [at] * len(t.counts), "|", color="C0", alpha=0.4)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.grid(axis="x", alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()
