"""The table over rounds: what each model was trained on, how well it does, what it cost."""

from typing import Any

from rich.table import Table

from pipeline import registry
from pipeline.display import console, round_title
from pipeline.rundir import RoundKey, RunDir
from pipeline.stage import PROPOSE, STAGES, TRAIN, TRAIN_SFT
from pipeline.store import files

BESIDE = 3  # other ways to answer that stand beside the greedy answers in one table


def round_facts(run: RunDir, round_: RoundKey) -> dict[str, Any] | None:
    """Return what the table says of one round, or None when it is not evaluated yet. Keys are stable: `--json` prints them."""
    if not files.exists(run.evaluation(round_)):
        return None
    found = files.read_json(run.evaluation(round_))
    facts: dict[str, Any] = {"round": round_, **{k: v for k, v in found.items() if k != "round"}}
    if isinstance(round_, int):
        found_here = {name: files.join(run.stage(round_, name), "train.json") for name in (TRAIN_SFT, TRAIN)}
        trainings = {name: files.read_json(path) for name, path in found_here.items() if files.exists(path)}
        facts["train"] = trainings.get(TRAIN)
        stages = {name: m for name in (PROPOSE, *STAGES) if (m := run.manifest(run.stage(round_, name)))}
        facts["generated_tokens"] = sum(m.tokens.completion for m in stages.values())
        facts["generated"] = max(
            (stages[name].rows_out for name in STAGES[:2] if name in stages), default=0
        )  # a critique may make records of a tree
        facts["kept"] = m.rows_out if (m := run.manifest(run.stage(round_, "publish"))) else 0
        facts["seconds"] = round(
            facts["seconds"]
            + sum(m.seconds for m in stages.values())
            + sum(t.get("seconds") or 0 for t in trainings.values()),
            1,
        )
    return facts


def rounds_table(run: RunDir) -> list[dict[str, Any]]:
    """Print the table over rounds and return its facts."""
    facts = [f for r in run.rounds() if (f := round_facts(run, r)) is not None]
    if not facts:
        console.print("no round is evaluated yet")
        return facts
    extra = sorted({k for f in facts for k in f if k.startswith(("pass@", "maj@", "refined"))})
    sets = list(dict.fromkeys(name for f in facts for name in f.get("sets", {})))
    beside = extra if len(extra) <= BESIDE else []
    table = Table(
        title=f"{run.recipe().name}: held-out {measured(run)}, n = {facts[0]['n']}", title_justify="left"
    )
    for name in (
        "model",
        "greedy [95% interval]",
        *beside,
        f"against {_reference(facts)}",
        "flips since last",
        "real + synthetic",
        "kept of made",
        "tokens",
        "minutes",
    ):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=console.width >= 130)
    for f in facts:
        table.add_row(*_cells(f, beside))
    console.print(table)
    if len(extra) > BESIDE:
        console.print(_ways_table(facts, extra))
    if general := [
        f"{_title(f)} {f['replay_perplexity']['perplexity']:.2f}" for f in facts if "replay_perplexity" in f
    ]:
        console.print(f"perplexity of held-out general text: {', '.join(general)}", markup=False)
    if sets:
        console.print(_sets_table(facts, sets, measured(run)))
    if any("measures" in f for f in facts):
        console.print(_measures_table(facts))
    return facts


def _ways_table(facts: list[dict[str, Any]], ways: list[str]) -> Table:
    """Return the table of the other ways to answer, where they are too many to stand beside the greedy answers."""
    table = Table(title="held-out set: other ways to answer [95% interval]", title_justify="left")
    table.add_column("model")
    for name in ways:
        table.add_column(name, justify="right")
    for f in facts:
        table.add_row(_title(f), *(interval(f[name]) if name in f else "" for name in ways))
    return table


def _measures_table(facts: list[dict[str, Any]]) -> Table:
    """Return the table of what else a method measures on the held-out set: mean and interval of each model."""
    names = list(dict.fromkeys(name for f in facts for name in f.get("measures", {})))
    table = Table(title="held-out set: mean of each measure [95% interval]", title_justify="left")
    table.add_column("model")
    for name in names:
        table.add_column(name, justify="right")
    for f in facts:
        found = f.get("measures", {})
        table.add_row(
            _title(f),
            *(
                f"{m['mean']:.2f}\n[{m['low']:.2f}, {m['high']:.2f}]" if (m := found.get(name)) else ""
                for name in names
            ),
        )
    return table


def measured(run: RunDir) -> str:
    """Return what the numbers of a run's evaluation are: accuracy, or what its method measures."""
    return registry.resolve("method", run.recipe().method["name"]).measured


def _sets_table(facts: list[dict[str, Any]], sets: list[str], number: str) -> Table:
    """Return the table of evaluate.sets: `number` (what is measured) of each model on each, and what it gained on the first."""
    sizes = {name: f["sets"][name]["n"] for name in sets for f in facts if name in f.get("sets", {})}
    table = Table(
        title=f"further sets: greedy {number} [95% interval], and against {_reference(facts)}",
        title_justify="left",
    )
    table.add_column("model")
    for name in sets:
        table.add_column(f"{name}, n = {sizes[name]}", justify="right")
    for f in facts:
        table.add_row(_title(f), *(_set_cell(f, name) for name in sets))
    return table


def _set_cell(f: dict[str, Any], name: str) -> str:
    measured = f.get("sets", {}).get(name)
    if measured is None:
        return ""
    against = _against(measured) if f["round"] != "base" else None
    return interval(measured["greedy"]) + (
        f"\n{interval(against['difference'], signed=True)}" if against else ""
    )


def _reference(facts: list[dict[str, Any]]) -> str:
    return "base" if any("against_base" in f for f in facts) else "round 0"


def _against(measured: dict[str, Any]) -> dict[str, Any] | None:
    return measured.get("against_round_0") or measured.get("against_base")


def _title(f: dict[str, Any]) -> str:
    return f"{round_title(f['round'])}{' (demonstrations)' if f['round'] == 0 else ''}"


def _cells(f: dict[str, Any], extra: list[str]) -> list[str]:
    against, train = _against(f), f.get("train") or {}
    previous, shares = f.get("against_previous"), train.get("shares", {})
    return [
        _title(f),
        interval(f["greedy"]),
        *(f"{f[k]['mean']:.1%}" if k in f else "" for k in extra),
        interval(against["difference"], signed=True) if against and f["round"] != "base" else "",
        f"+{previous['wrong_to_right']} -{previous['right_to_wrong']}" if previous else "",
        f"{shares.get('real', 0)} + {shares.get('synthetic', 0)}" if train else "",
        f"{f['kept']} of {f['generated']}" if f.get("generated") else "",
        f"{f['generated_tokens']:,}" if f.get("generated_tokens") else "",
        f"{f['seconds'] / 60:.1f}",
    ]


def interval(value: dict[str, float], signed: bool = False) -> str:
    """Write a mean and its interval as percentages."""
    sign = "+" if signed else ""
    return f"{value['mean']:{sign}.1%} [{value['low']:{sign}.1%}, {value['high']:{sign}.1%}]"
