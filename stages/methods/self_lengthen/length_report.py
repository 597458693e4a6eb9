"""The report on text lengths: lengths.txt and lengths.png in the run directory, from the rounds there are."""

import io
from collections.abc import Iterator
from statistics import fmean
from typing import Any

from pipeline.rundir import RoundKey, RunDir
from pipeline.stage import STAGES
from pipeline.statistics import paired_difference, quantiles
from pipeline.store import files, parts
from pipeline.store.manifest import Manifest
from stages.methods.self_lengthen.length_evaluation import LENGTH_SCORE, MEASURES, mean_of, texts_of
from stages.methods.self_lengthen.lengths import words
from stages.methods.self_lengthen.long_texts import problem, repetition_rate
from stages.rounds.published_rows import TOO_LONG

TEXT, PICTURE = "lengths.txt", "lengths.png"
_QUANTILES = ("p10", "p25", "p50", "p75", "p90", "max", "mean")
_SHARES = ("passes rules", "cut off", "repetitive", "repetition rate")

Texts = list[dict[str, Any]]  # measured texts of one kind


def write(run: RunDir) -> None:
    """Write both files, replacing earlier ones."""
    texts = {name: measured for name, measured in gather(run) if measured}
    if texts:
        lines = [*_word_counts(texts), *_differences(run), *_scores(run), *_kept(run)]
        files.write_bytes(run.path(TEXT), "\n".join(lines).encode())
        files.write_bytes(run.path(PICTURE), _draw(texts, run.recipe().name))


def gather(run: RunDir) -> Iterator[tuple[str, Texts]]:
    """Yield the texts of a run in order of creation: of each model in evaluation, and of each round.

    Drafts are the last ones written for each instruction, dropped or not; extended drafts those with an
    extension.
    """
    for round_ in run.rounds():
        if isinstance(round_, int):
            if run.manifest(made := run.stage(round_, "generate")):
                paths = files.glob(files.join(made, "rows"), "part-*.arrow")
                drafts = (row.payload for path in paths for row in parts.read_rows(path))
                written = [d for d in drafts if d["completion_tokens"]]
                measured = [_measure(d, d["text"], d["finish_reason"]) for d in written]
                yield f"round {round_}, drafts", measured
            if run.manifest(made := run.stage(round_, "verify")):
                rows = [row.payload for row in run.rows(made)]
                yield f"round {round_}, extended drafts", [_measure(row, row["draft"]) for row in rows]
                yield f"round {round_}, extensions", [_measure(row, row["text"]) for row in rows]
        for kind, asked in (("greedy", ""), ("control", ", asked for longer")):
            found = _evaluated(run, round_, kind).values()
            yield f"{_model(round_)}{asked}", [text for texts in found for text in texts]


def _evaluated(run: RunDir, round_: RoundKey, kind: str) -> dict[str, Texts]:
    """Return a model's measured texts of a kind for the held-out instructions, by task."""
    folder = run.stage(round_, "evaluate")
    rows = [row.payload for row in run.rows(folder)] if run.manifest(folder) else []
    return {row["task_id"]: texts for row in rows if (texts := texts_of(row, kind))}


def _measure(made: dict[str, Any], text: str, finish_reason: str = "stop") -> dict[str, Any]:
    why = problem(text, made["question"], finish_reason)
    return {"words": words(text), "problem": why and why[0], "repetition": repetition_rate(text)}


def _word_counts(texts: dict[str, Texts]) -> list[str]:
    width = max(map(len, texts))
    heads = "".join(f"{name:>7}" for name in _QUANTILES) + "".join(f"  {name}" for name in _SHARES)
    lines = [f"{'words':<{width}}     n{heads}"]
    for name, measured in texts.items():
        counts = [text["words"] for text in measured]
        spread = quantiles(counts) | {"mean": fmean(counts)}
        cells = "".join(f"{spread[column]:>7.0f}" for column in _QUANTILES)
        for share in _SHARES:
            cells += f"{fmean(MEASURES[share](text) for text in measured):>{len(share) + 2}.1%}"
        lines.append(f"{name:<{width}} {len(measured):>5}{cells}")
    return [*lines, ""]


def _differences(run: RunDir) -> list[str]:
    """Compare each trained model's words with the base model's, asked plainly and for longer; paired by
    instruction.
    """
    lines, recipe = [], run.recipe()
    bases = {"base model": "greedy", "base model, asked for longer": "control"}
    before = {name: _words(_evaluated(run, "base", kind)) for name, kind in bases.items()}
    for round_ in run.rounds():
        after = _words(_evaluated(run, round_, "greedy")) if isinstance(round_, int) else {}
        for name, base in before.items():
            if n := len(after.keys() & base.keys()):
                more = paired_difference(base, after, recipe.evaluate.bootstrap, recipe.seed)
                interval = f"{more.mean:+.0f} [{more.low:+.0f}, {more.high:+.0f}] (n = {n})"
                lines.append(f"words, {_model(round_)} minus {name}: {interval}")
    return [*lines, ""] if lines else []


def _words(texts: dict[str, Texts]) -> dict[str, float]:
    return {task: mean_of("words", own) for task, own in texts.items()}


def _scores(run: RunDir) -> list[str]:
    """List the length score of each set that asks for lengths, by model and kind of demand."""
    lines = []
    for round_ in run.rounds():
        path = run.evaluation(round_)
        sets = files.read_json(path).get("sets", {}) if files.exists(path) else {}
        for name, evaluated in sets.items():
            kinds = ", ".join(
                f"{measure.removeprefix(LENGTH_SCORE)} {values['mean']:.3f}"
                for measure, values in evaluated.get("measures", {}).items()
                if measure.startswith(LENGTH_SCORE)
            )
            if kinds:
                score = "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**evaluated["greedy"])
                lines.append(f"length score on {name}, {_model(round_)}: {score} ({kinds})")
    return [*lines, ""] if lines else []


def _model(round_: RoundKey) -> str:
    return "base model" if round_ == "base" else f"model of round {round_}"


def _kept(run: RunDir) -> list[str]:
    """List what went into every filter of every round, and what it kept."""
    lines = []
    for round_ in run.rounds():
        for name in (*STAGES, "publish"):
            if isinstance(round_, int) and (manifest := run.manifest(run.stage(round_, name))):
                lines += [f"round {round_}, {line}" for line in _kept_in(name, manifest)]
                rows = run.rows(run.stage(round_, name)) if name == "publish" else ()
                if long := sum(len(row.payload.get(TOO_LONG, ())) for row in rows):
                    left_out = f"{long} examples too long to train on, of rows that have another"
                    lines.append(f"round {round_}, publish: {left_out}")
    return ["kept of what came in", *lines, ""] if lines else []


def _kept_in(name: str, manifest: Manifest) -> Iterator[str]:
    refused = manifest.rows_dropped | manifest.rows_failed
    rows_in, made = manifest.rows_in, manifest.steps[0].rows_in if manifest.steps else manifest.rows_out
    if name == "generate":
        yield f"{name}: {rows_in} seeds, {made} drafts or instructions without one{_reasons(refused)}"
    elif name == "critique":
        yield f"{name}: {rows_in} drafts, {made} extensions tried{_reasons(refused)}"
    elif name != "publish":
        yield _line(name, rows_in, rows_in - sum(refused.values()), refused)
    for step in manifest.steps:
        yield _line(f"{name}, {step.name}", step.rows_in, step.rows_out, step.dropped)


def _line(name: str, rows_in: int, rows_out: int, dropped: dict[str, int]) -> str:
    return f"{name}: {rows_out} of {rows_in} ({rows_out / max(1, rows_in):.0%}){_reasons(dropped)}"


def _reasons(dropped: dict[str, int]) -> str:
    by_count = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    return "; dropped: " + ", ".join(f"{reason} {n}" for reason, n in by_count) if by_count else ""


def _draw(texts: dict[str, Texts], title: str) -> bytes:
    """Return a PNG with a box per kind of text: quartiles, whiskers at 10% and 90%, a tick per text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not pyplot: no global state, no display
    from matplotlib.figure import Figure

    counts = [[text["words"] for text in measured] for measured in texts.values()]
    names = [f"{name} ({len(measured)})" for name, measured in texts.items()]
    figure = Figure(figsize=(8, 0.55 * len(texts) + 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="words", title=title)
    axes.boxplot(counts, orientation="horizontal", tick_labels=names, whis=(10, 90), showfliers=False)
    for at, row in enumerate(counts, 1):
        axes.plot(row, [at] * len(row), "|", color="C0", alpha=0.4)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.grid(axis="x", alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()
