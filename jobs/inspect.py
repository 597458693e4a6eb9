"""Look at a run, even while it runs, or at a dataset: python -m jobs.inspect PATH [--round K] [--stage S]"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.common import JsonOption, OldOutOption, check_run, main, one_name
from jobs.dataset_folder import dataset_facts, is_dataset, show_dataset
from jobs.rendering import show_overview, show_rejects, show_rows, show_stage, show_train
from jobs.showing import print_json, show
from jobs.trees import round_with_tree, show_tree, trees
from pipeline import overview, sample_rows
from pipeline.errors import ConfigError, SelfloopError, nearest
from pipeline.overview import NOT_BEGUN, ROUND_STAGES, TRAININGS
from pipeline.rundir import RoundKey, RunDir
from pipeline.stage import ANSWER, LABELS, PAIRS, PUBLISH, RESUMED
from pipeline.store import files
from stages.reports.table import measured, rounds_table

STAGE_NAMES = ("tasks", *ROUND_STAGES)
# The stage whose rows a dataset holds, by what they are called; others hold those of publish.
_OF_UNIT = {"pairs": PAIRS, "answers": LABELS}
_PUBLISHING = (PUBLISH, *_OF_UNIT.values())
TASK_SETS = ("train", "demonstrations", "held_out")  # and those of evaluate.sets, as sets/<name>

RoundChoice = Annotated[
    str | None, typer.Option("--round", metavar="K|base", help="round number, or base", show_default=False)
]


def inspect(
    path: Annotated[
        str | None,
        typer.Argument(help="run directory, or a dataset: its folder or file", show_default=False),
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="run directory", show_default=False)] = None,
    round: RoundChoice = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help=f"one of {', '.join(STAGE_NAMES)}", show_default=False)
    ] = None,
    dropped: Annotated[bool, typer.Option("--dropped", help="show dropped rows, by reason")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="show failed rows, by error")] = False,
    number: Annotated[int, typer.Option("-n", min=1, help="how many examples")] = 5,
    full: Annotated[bool, typer.Option("--full", help="show long texts in full")] = False,
    tree: Annotated[
        str | None,
        typer.Option(
            "--tree", metavar="ROW_ID", help="draw the search tree of a row of generate", show_default=False
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="FILE",
            help="with --tree: also draw it into a file, .svg or .html",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    out: OldOutOption = None,
) -> None:
    """Show the state of a run, one stage with examples, or a dataset. Read-only; a running stage is not
    disturbed.
    """
    file = one_name(to, out)
    if (path is None) == (run is None):
        raise ConfigError("name a run directory or a dataset, once: selfloop inspect PATH")
    if path is not None and is_dataset(Path(path)):
        if round or stage or dropped or failed or tree:
            raise ConfigError(f"{path} is a dataset: it has neither rounds nor stages.")
        facts = dataset_facts(Path(path), number)
        if as_json:
            print_json(facts)
        else:
            show_dataset(facts, full)
        return
    run = path or run or ""
    check_run(run, "PATH" if path else "--run")
    directory = RunDir(run)
    key = parse_round(round)
    recipe = overview.recipe_of(directory)
    if stage is None and (dropped or failed):
        option = "--dropped" if dropped else "--failed"
        raise ConfigError(f"{option}: name the stage with --stage (one of {', '.join(STAGE_NAMES)}).")
    if file is not None and tree is None:
        raise ConfigError("--to: name the tree with --tree ROW_ID.")
    if tree is not None:
        key = round_with_tree(directory, tree) if key is None else key
        key = _round_of(directory, key, "generate", recipe)
        if as_json:
            print_json(trees(directory, key, tree))
        else:
            show_tree(directory, key, tree, file, full)
    elif stage is None:
        _whole_run(directory, key, as_json)
    else:
        kinds = [kind for kind, on in (("dropped", dropped), ("failed", failed)) if on]
        facts = _stage_facts(directory, key, stage, recipe, kinds, number)
        if as_json:
            print_json(facts)
        else:
            _show(facts, full)


def parse_round(text: str | None) -> RoundKey | None:
    """Return the round that an option names. Raises ConfigError."""
    if text is None or text == "base":
        return text
    if not text.isdecimal():
        raise ConfigError(f"--round {text!r}: expected a number, or base")
    return int(text)


def check_stage(stage: str, recipe: dict[str, Any]) -> None:
    """Raise ConfigError for a name that no stage of a run with this recipe has."""
    names = [*STAGE_NAMES, RESUMED, ANSWER]
    sets = overview.evaluation_sets(recipe)
    names += [f"{stage}-{name}" for name in sets for stage in ("evaluate", ANSWER)]
    if stage not in names:
        near = nearest(stage, names)
        hint = f" (did you mean {near!r}?)" if near else ""
        raise ConfigError(f"--stage {stage!r}: no such stage{hint}. Stages are {', '.join(names)}.")


def _whole_run(run: RunDir, round_: RoundKey | None, as_json: bool) -> None:
    facts = overview.overview(run)
    if round_ is not None:
        facts["rounds"] = [r for r in facts["rounds"] if r["round"] == round_]
        if not facts["rounds"]:
            raise SelfloopError(f"{run.root}: it has no round {round_}. Rounds here: {_names(run)}.")
    if as_json:
        print_json(facts)
        return
    show_overview(facts)
    if round_ is None and any(r["evaluation"] for r in facts["rounds"]):
        show()
        rounds_table(run)


def _round_of(run: RunDir, round_: RoundKey | None, stage: str, recipe: dict[str, Any]) -> RoundKey:
    """Return the round asked for, else the last one in which the stage has begun."""
    if round_ is None:
        begun = [r for r in overview.rounds_of(run, recipe) if files.exists(run.stage(r, stage))]
        if not begun:
            raise SelfloopError(f"{run.root}: no round has begun its {stage} stage.")
        return begun[-1]
    if round_ not in overview.rounds_of(run, recipe):
        raise SelfloopError(f"{run.root}: it has no round {round_}. Rounds here: {_names(run)}.")
    if stage not in (there := overview.stages_of(round_, recipe, run)):
        raise SelfloopError(f"round {round_} has no {stage} stage; it has {', '.join(there)}.")
    return round_


def _names(run: RunDir) -> str:
    return ", ".join(map(str, overview.rounds_of(run, overview.recipe_of(run)))) or "none"


def _stage_facts(
    run: RunDir, round_: RoundKey | None, stage: str, recipe: dict[str, Any], kinds: list[str], n: int
) -> dict[str, Any]:
    """Return a stage's counts with `n` examples: of rows and rejects, or only of these `kinds` of rejects."""
    check_stage(stage, recipe)
    if stage == "tasks":
        sets = overview.evaluation_sets(recipe)
        return _task_facts(run, [*TASK_SETS, *(f"sets/{name}" for name in sets)], kinds, n)
    round_ = _round_of(run, round_, stage, recipe)
    facts: dict[str, Any] = {"run": run.root, "round": round_, "stage": stage}
    if stage in TRAININGS:
        return facts | overview.train_facts(run, round_, stage)
    facts |= overview.stage_facts(run, round_, stage)
    folder = run.stage(round_, stage)
    manifest = run.manifest(folder)
    facts["dropped_in_all"] = manifest.dropped_in_all() if manifest else dict(facts["dropped"])
    for kind, reasons in (("dropped", set(facts["dropped_in_all"])), ("failed", set(facts["failed"]))):
        wanted = kind in kinds or not kinds
        # Unless asked for, about n in total, so that no reason crowds out the rest.
        each = n if kind in kinds else max(1, n // max(1, len(reasons)))
        facts[f"{kind}_examples"] = sample_rows.rejects(folder, kind, each, reasons) if wanted else {}
    paths = [run.path(p.path) for p in manifest.parts] if manifest else overview.row_parts(folder)
    show_rows_too = not kinds and facts["state"] != NOT_BEGUN
    facts["rows"] = [asdict(r) for r in sample_rows.spread(paths, n)] if show_rows_too else []
    if stage in _PUBLISHING:
        datasets = overview.published(run, round_)
        facts["datasets"] = [d for d in datasets if _OF_UNIT.get(d["unit"], PUBLISH) == stage]
    if stage.startswith("evaluate"):
        facts["measured"] = measured(run)
        path = run.evaluation(round_)
        evaluation = files.read_json(path) if files.exists(path) else {}
        if stage != "evaluate":
            evaluation = evaluation.get("sets", {}).get(stage.removeprefix("evaluate-"))
        facts["evaluation"] = evaluation or None
    return facts


def _task_facts(run: RunDir, sets: list[str], kinds: list[str], n: int) -> dict[str, Any]:
    manifest = run.manifest(run.path("tasks"))
    if manifest is None:
        raise SelfloopError(f"{run.root}: its tasks are not read yet (tasks/manifest.json is missing).")
    manifests = {name: run.manifest(run.tasks(name)) for name in sets}
    rows: list[dict[str, Any]] = []
    for name, of_set in manifests.items() if not kinds else ():
        paths = [run.path(p.path) for p in of_set.parts] if of_set else []
        rows += [
            {"set": name, **asdict(row)} for row in sample_rows.spread(paths, n if name == "train" else 1)
        ]
    return {
        "run": run.root,
        "round": None,
        "stage": "tasks",
        "state": overview.DONE,
        "expected": manifest.rows_in,
        **overview.of_manifest(manifest),
        "dropped_in_all": manifest.dropped_in_all(),
        "sets": {name: m.rows_out if m else 0 for name, m in manifests.items()},
        "dropped_examples": {},  # duplicates are only counted: they repeat another task
        "failed_examples": (
            {} if kinds == ["dropped"] else sample_rows.rejects(run.tasks("rejected"), "failed", n)
        ),
        "rows": rows,
    }


def _show(facts: dict[str, Any], full: bool) -> None:
    if facts["stage"] in TRAININGS:
        show_train(facts)
        return
    show_stage(facts)
    for kind in ("dropped", "failed"):
        show_rejects(kind, facts[f"{kind}_examples"], full)
    show_rows(facts["rows"], full)
    if with_tree := [row["id"] for row in facts["rows"] if "tree" in row["payload"]]:
        command = f"selfloop inspect --run {facts['run']} --round {facts['round']} --tree {with_tree[0]}"
        show(f"draw a tree: {command}")


if __name__ == "__main__":
    main(inspect)
