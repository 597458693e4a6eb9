"""Look at a run, also while it is running: python -m jobs.inspect --run DIR [--round K] [--stage S] [--dropped] [--failed] [--tree ROW_ID]"""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from jobs.common import RunOption, main
from jobs.rendering import show_overview, show_rejects, show_rows, show_stage, show_train
from jobs.showing import print_json, show
from jobs.trees import round_with_tree, show_tree, trees
from pipeline import examples, overview
from pipeline.errors import ConfigError, SelfloopError, nearest
from pipeline.methods import RESUMED
from pipeline.overview import NOT_BEGUN, ROUND_STAGES, TRAININGS
from pipeline.rundir import RoundKey, RunDir
from pipeline.store import files
from stages.reports.table import measured

STAGE_NAMES = ("tasks", *ROUND_STAGES)
TASK_SETS = ("train", "demonstrations", "held_out")  # and those of evaluate.sets, as sets/<name>

RoundChoice = Annotated[
    str | None, typer.Option("--round", metavar="K|base", help="round number, or base", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]


def inspect(
    run: RunOption,
    round: RoundChoice = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help=f"one of {', '.join(STAGE_NAMES)}", show_default=False)
    ] = None,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="examples of rows that were dropped, for each reason")
    ] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="examples of rows that failed, for each error")
    ] = False,
    number: Annotated[int, typer.Option("-n", min=1, help="how many examples")] = 5,
    full: Annotated[bool, typer.Option("--full", help="show long texts whole")] = False,
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
            help="with --tree: draw it into a file as well, .svg or .html",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run has made so far: all of it, or one stage with examples. Reads only; a running stage does not notice."""
    directory = RunDir(run)
    key = parse_round(round)
    recipe = overview.recipe_of(directory)
    if stage is None and (dropped or failed):
        raise ConfigError(
            f"--{'dropped' if dropped else 'failed'}: say of which stage, with --stage (one of {', '.join(STAGE_NAMES)})."
        )
    if to is not None and tree is None:
        raise ConfigError("--to: say which tree, with --tree ROW_ID.")
    if tree is not None:
        key = round_with_tree(directory, tree) if key is None else key
        key = _round_of(directory, key, "generate", recipe)
        if as_json:
            print_json(trees(directory, key, tree))
        else:
            show_tree(directory, key, tree, to, full)
        return
    if stage is None:
        _whole(directory, key, as_json)
        return
    _check_stage(stage, recipe)
    if stage == "tasks":
        facts = _tasks(
            directory,
            [*TASK_SETS, *(f"sets/{name}" for name in overview.evaluation_sets(recipe))],
            dropped,
            failed,
            number,
        )
    else:
        key = _round_of(directory, key, stage, recipe)
        facts = (
            _train(directory, key, stage)
            if stage in TRAININGS
            else _stage(directory, key, stage, dropped, failed, number)
        )
    if as_json:
        print_json(facts)
    elif stage in TRAININGS:
        show_train(facts)
    else:
        show_stage(facts)
        for kind in ("dropped", "failed"):
            show_rejects(kind, facts[f"{kind}_examples"], full)
        show_rows(facts["rows"], full)
        if drawn := [row["id"] for row in facts["rows"] if "tree" in row["payload"]]:
            show(
                f"a tree is drawn with: selfloop inspect --run {directory.root} --round {key} --tree {drawn[0]}"
            )


def parse_round(text: str | None) -> RoundKey | None:
    """Return the round that an option names. Raises ConfigError."""
    if text is None or text == "base":
        return text
    if not text.isdecimal():
        raise ConfigError(f"--round {text!r}: expected a number, or base")
    return int(text)


def _check_stage(stage: str, recipe: dict[str, Any]) -> None:
    names = (*STAGE_NAMES, RESUMED, *(f"evaluate-{name}" for name in overview.evaluation_sets(recipe)))
    if stage in names:
        return
    near = nearest(stage, names)
    hint = f"did you mean {near!r}? " if near else ""
    raise ConfigError(f"--stage {stage!r}: there is no such stage; {hint}Stages are {', '.join(names)}.")


def _whole(run: RunDir, round_: RoundKey | None, as_json: bool) -> None:
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
        import stages  # noqa: F401 - the table names the run's method, which has to be known
        from stages.reports.table import rounds_table

        show()
        rounds_table(run)


def _round_of(run: RunDir, round_: RoundKey | None, stage: str, recipe: dict[str, Any]) -> RoundKey:
    """Return the round that is asked for, else the last one in which the stage was begun."""
    rounds = overview.rounds_of(run, recipe)
    if round_ is None:
        begun = [r for r in rounds if files.exists(run.stage(r, stage))]
        if not begun:
            raise SelfloopError(f"{run.root}: no round has begun its {stage} stage.")
        return begun[-1]
    if round_ not in rounds:
        raise SelfloopError(f"{run.root}: it has no round {round_}. Rounds here: {_names(run)}.")
    if stage not in (there := overview.stages_of(round_, recipe, run)):
        raise SelfloopError(f"round {round_} has no {stage} stage; it has {', '.join(there)}.")
    return round_


def _names(run: RunDir) -> str:
    return ", ".join(map(str, overview.rounds_of(run, overview.recipe_of(run)))) or "none"


def _stage(run: RunDir, round_: RoundKey, stage: str, dropped: bool, failed: bool, n: int) -> dict[str, Any]:
    folder = run.stage(round_, stage)
    facts: dict[str, Any] = {
        "run": run.root,
        "round": round_,
        "stage": stage,
        **overview.stage_facts(run, round_, stage),
    }
    manifest = run.manifest(folder)
    reasons = dict(facts["dropped"]) if manifest is None else manifest.dropped_in_all()
    facts["dropped_in_all"] = reasons
    rejects_only = dropped or failed
    facts["dropped_examples"] = (
        _some(folder, "dropped", n, set(reasons), dropped) if dropped or not rejects_only else {}
    )
    facts["failed_examples"] = (
        _some(folder, "failed", n, set(facts["failed"]), failed) if failed or not rejects_only else {}
    )
    paths = [run.path(p.path) for p in manifest.parts] if manifest else overview.row_parts(folder)
    facts["rows"] = (
        [] if rejects_only or facts["state"] == NOT_BEGUN else [asdict(r) for r in examples.spread(paths, n)]
    )
    if stage in ("publish", "pairs"):
        facts["datasets"] = [
            d for d in overview.published(run, round_) if (d["unit"] == "pairs") == (stage == "pairs")
        ]
    if stage.startswith("evaluate"):
        facts["measured"] = measured(run)
        whole = files.read_json(run.evaluation(round_)) if files.exists(run.evaluation(round_)) else None
        facts["evaluation"] = (
            whole
            if stage == "evaluate"
            else (whole or {}).get("sets", {}).get(stage.removeprefix("evaluate-"))
        )
    return facts


def _some(
    folder: str, kind: str, n: int, reasons: set[str], all_wanted: bool
) -> dict[str, list[dict[str, Any]]]:
    """Return `n` rejects of each reason; without `all_wanted` about `n` in all, so that no reason crowds out the rest."""
    each = n if all_wanted else max(1, n // max(1, len(reasons)))
    return examples.rejects(folder, kind, each, reasons)


def _tasks(run: RunDir, sets: list[str], dropped: bool, failed: bool, n: int) -> dict[str, Any]:
    manifest = run.manifest(run.path("tasks"))
    if manifest is None:
        raise SelfloopError(f"{run.root}: its tasks are not read yet (tasks/manifest.json is missing).")
    rows = (
        []
        if dropped or failed
        else [
            {"set": which, **asdict(row)}
            for which in sets
            for row in examples.spread(_paths(run, which), n if which == "train" else 1)
        ]
    )
    return {
        "run": run.root,
        "round": None,
        "stage": "tasks",
        "state": overview.DONE,
        "expected": manifest.rows_in,
        **overview.of_manifest(manifest),
        "dropped_in_all": manifest.dropped_in_all(),
        "sets": {w: m.rows_out if (m := run.manifest(run.tasks(w))) else 0 for w in sets},
        "dropped_examples": {},  # duplicates are only counted: they say what another task says
        "failed_examples": examples.rejects(run.tasks("rejected"), "failed", n)
        if failed or not dropped
        else {},
        "rows": rows,
    }


def _paths(run: RunDir, which: str) -> list[str]:
    manifest = run.manifest(run.tasks(which))
    return [run.path(p.path) for p in manifest.parts] if manifest else []


def _train(run: RunDir, round_: RoundKey, name: str) -> dict[str, Any]:
    return {"run": run.root, "round": round_, "stage": name, **overview.train_facts(run, round_, name)}


if __name__ == "__main__":
    main(inspect)
