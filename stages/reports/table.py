"""The table over rounds: what each model was trained on, how well it does, what it cost."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rich.table import Table

from pipeline import registry
from pipeline.console import console
from pipeline.display import round_title
from pipeline.methods import load_method
from pipeline.rundir import RoundKey, RunDir
from pipeline.stage import PROPOSE, STAGES, TRAIN, TRAIN_SFT
from pipeline.statistics import shown
from pipeline.store import files
from stages.rounds.evaluation import asks_model

BESIDE = 3  # most other ways to answer that fit beside the greedy answers

Figures = dict[str, Any]


def round_figures(run: RunDir, round_: RoundKey) -> Figures | None:
    """Return one round's figures, None if it is not evaluated yet. Keys are stable: `--json` prints them."""
    if not files.exists(run.evaluation(round_)):
        return None
    evaluation = files.read_json(run.evaluation(round_))
    figures: Figures = {"round": round_, **{k: v for k, v in evaluation.items() if k != "round"}}
    if isinstance(round_, int):
        results = {name: files.join(run.stage(round_, name), "train.json") for name in (TRAIN_SFT, TRAIN)}
        trainings = {name: files.read_json(path) for name, path in results.items() if files.exists(path)}
        stages = {name: m for name in (PROPOSE, *STAGES) if (m := run.manifest(run.stage(round_, name)))}
        figures["train"] = trainings.get(TRAIN)
        figures["generated_tokens"] = sum(m.tokens.completion for m in stages.values())
        # The critique may turn one generated tree into several records.
        figures["generated"] = max((stages[s].rows_out for s in STAGES[:2] if s in stages), default=0)
        figures["kept"] = m.rows_out if (m := run.manifest(run.stage(round_, "publish"))) else 0
        figures["seconds"] += sum(m.seconds for m in stages.values())
        figures["seconds"] += sum(t.get("seconds") or 0 for t in trainings.values())
        figures["seconds"] = round(figures["seconds"], 1)
    return figures


def rounds_table(run: RunDir) -> list[Figures]:
    """Print the table over rounds and return its figures."""
    figures = [f for r in run.rounds() if (f := round_figures(run, r)) is not None]
    if not figures:
        console.print("no round is evaluated yet")
        return figures
    ways = sorted({k for f in figures for k in f if k.startswith(("pass@", "maj@", "refined"))})
    beside = ways if len(ways) <= BESIDE else []
    reference = "base" if any("against_base" in f for f in figures) else "round 0"
    number = measured(run)
    table = Table(
        title=f"{run.recipe().name}: held-out {number}, n = {figures[0]['n']}", title_justify="left"
    )
    names = ("greedy [95% interval]", *beside, f"against {reference}", "flips since last")
    names += ("real + synthetic", "kept of made", "tokens", "minutes")
    for name in ("model", *names):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=console.width >= 130)
    for f in figures:
        table.add_row(*_cells(f, beside, number))
    console.print(table)
    if not beside and ways:
        title = "held-out set: other ways to answer [95% interval]"
        _print(title, figures, ways, lambda f, name: interval(f[name]) if name in f else "")
    general = [(_title(f), f["replay_perplexity"]["perplexity"]) for f in figures if "replay_perplexity" in f]
    if general:
        perplexities = (f"{title} {value:.2f}" for title, value in general)
        console.print(f"perplexity of held-out general text: {', '.join(perplexities)}", markup=False)
    if sets := {name: s["n"] for f in figures for name, s in f.get("sets", {}).items()}:
        title = f"further sets: greedy {number} [95% interval], and against {reference}"
        _print(
            title,
            figures,
            list(sets),
            partial(_set_cell, number),
            [f"{name}, n = {n}" for name, n in sets.items()],
        )
    if measures := list(dict.fromkeys(name for f in figures for name in f.get("measures", {}))):
        _print("held-out set: mean of each measure [95% interval]", figures, measures, _measure_cell)
    return figures


def measured(run: RunDir) -> str:
    """Return what a run's evaluation measures: accuracy, or its method's own measure, or what a judge
    approves of.
    """
    recipe = run.recipe()
    if recipe.evaluate.how == "perplexity":
        return "probability per token of the known solution"
    if asks_model(recipe, load_method(recipe), None):
        return "share of answers approved by the judge"
    return registry.resolve("method", recipe.method["name"]).measured


def interval(value: dict[str, float], signed: bool = False) -> str:
    """Return a mean and its interval as percentages."""
    return shown(value, "+.1%" if signed else ".1%")


def readable(f: Figures) -> str:
    """Return the share of a set's answers that could be read, "-" if it was not counted."""
    return f"{f['parsed'] / f['n']:.0%}" if f.get("n") and f.get("parsed") is not None else "-"


def _accuracy(f: Figures, number: str) -> list[str]:
    """Return the lines of a cell: the interval and, of an accuracy, how much of it is a matter of format.

    The accuracy of loosely read answers is shown where it lies beyond the interval.
    """
    lines = [interval(f["greedy"])]
    if number == "accuracy":
        lines.append(f"{readable(f)} readable")
        if "loose" in f and f["loose"]["mean"] > f["greedy"]["high"]:
            lines.append(f"{f['loose']['mean']:.1%} read loosely")
    return lines


def _print(
    title: str,
    figures: Sequence[Figures],
    names: Sequence[str],
    cell: Callable[[Figures, str], str],
    headers: Sequence[str] = (),
) -> None:
    """Print a table with a line per model and a column for each of `names`."""
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for header in headers or names:
        table.add_column(header, justify="right")
    for f in figures:
        table.add_row(_title(f), *(cell(f, name) for name in names))
    console.print(table)


def _set_cell(number: str, f: Figures, name: str) -> str:
    figures = f.get("sets", {}).get(name)
    if figures is None:
        return ""
    gain = _gain({"round": f["round"], **figures})
    return "\n".join([*_accuracy(figures, number), *([gain] if gain else [])])


def _measure_cell(f: Figures, name: str) -> str:
    m = f.get("measures", {}).get(name)
    return f"{m['mean']:.2f}\n[{m['low']:.2f}, {m['high']:.2f}]" if m else ""


def _gain(f: Figures) -> str:
    against = f.get("against_round_0") or f.get("against_base")
    return interval(against["difference"], signed=True) if against and f["round"] != "base" else ""


def _title(f: Figures) -> str:
    return round_title(f["round"]) + (" (demonstrations)" if f["round"] == 0 else "")


def _cells(f: Figures, ways: list[str], number: str) -> list[str]:
    train, previous = f.get("train") or {}, f.get("against_previous")
    shares = train.get("shares", {})
    return [
        _title(f),
        "\n".join(_accuracy(f, number)),
        *(f"{f[k]['mean']:.1%}" if k in f else "" for k in ways),
        _gain(f),
        f"+{previous['wrong_to_right']} -{previous['right_to_wrong']}" if previous else "",
        f"{shares.get('real', 0)} + {shares.get('synthetic', 0)}" if train else "",
        f"{f['kept']} of {f['generated']}" if f.get("generated") else "",
        f"{f['generated_tokens']:,}" if f.get("generated_tokens") else "",
        f"{f['seconds'] / 60:.1f}",
    ]
