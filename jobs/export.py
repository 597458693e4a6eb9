"""A stage's rows as a table in a file: python -m jobs.export RUN --stage STAGE --to FILE"""

from pathlib import Path
from typing import Annotated

import typer

from jobs.common import check_run, main, say
from jobs.inspect import RoundChoice, check_stage, parse_round
from pipeline import overview
from pipeline.errors import ConfigError, SelfloopError
from pipeline.rundir import RoundKey, RunDir
from pipeline.tables import views, write

# What a run keeps in its directory.
OWN = ("branch.json", "datasets", "evaluation", "logs", "models", "rounds", "run.yaml", "tasks")


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="run directory")],
    stage: Annotated[
        str, typer.Option("--stage", help="a stage such as generate or verify, or tasks", show_default=False)
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FILE",
            help="a .parquet, .jsonl or .csv file, or a folder that load_dataset reads",
            show_default=False,
        ),
    ],
    round: RoundChoice = None,
    dropped: Annotated[bool, typer.Option("--dropped", help="the dropped rows, with reasons")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="the failed rows, with errors")] = False,
    force: Annotated[bool, typer.Option("--force", help="replace FILE if it exists")] = False,
    spreadsheet: Annotated[
        bool,
        typer.Option(
            "--spreadsheet", help="CSV: put ' before cells that a spreadsheet would run as a formula"
        ),
    ] = False,
) -> None:
    """Write a stage's rows with typed columns, one for each payload key. Without --round: of all rounds.

    Structs and lists stay such, in CSV they are JSON. A column whose values differ in type holds JSON text.
    """
    check_run(run, "RUN")
    directory = RunDir(run)
    recipe = overview.recipe_of(directory)
    check_stage(stage, recipe)
    if dropped and failed:
        raise ConfigError("--dropped and --failed have different columns: export them one at a time.")
    if stage in overview.TRAININGS:
        raise ConfigError(
            f"--stage {stage}: a training has no rows; its figures: selfloop inspect --run {run}"
        )
    if spreadsheet and write.format_of(to) != "csv":
        raise ConfigError("--spreadsheet is for CSV files: --to NAME.csv")
    write.format_of(to)
    _outside(directory, to)
    write.check_target(to, force)
    kind = "dropped" if dropped else "failed" if failed else None
    if stage == "tasks":
        table = views.tasks_table(directory, kind)
    else:
        rounds = _rounds(directory, stage, parse_round(round))
        table = views.stage_table(directory, stage, rounds, kind)
    rows, formulas = write.write_table(table, to, spreadsheet)
    say(f"{to}: {rows:,} {kind or ''}{' ' if kind else ''}rows of {stage}")
    if formulas and not spreadsheet:
        say(
            f"{formulas:,} cells begin with =, +, - or @. A spreadsheet would run them as formulas; programs "
            "read them as they are. For a spreadsheet add --spreadsheet."
        )


def _rounds(run: RunDir, stage: str, wanted: RoundKey | None) -> list[RoundKey]:
    """Return the rounds to export, those in which the stage has begun. Raises SelfloopError if none has."""
    present = [r for r in run.rounds() if stage in views.stages_in(run, r)]
    rounds = [r for r in present if wanted in (None, r)]
    if not rounds:
        where = ", ".join(map(str, present)) or "none"
        in_round = "" if wanted is None else f" in round {wanted}"
        raise SelfloopError(f"{run.root}: {stage} has no rows{in_round}. Rounds that have begun it: {where}.")
    for r in rounds:
        if run.manifest(run.stage(r, stage)) is None:
            say(f"note: {stage} of round {r} is under way; these are its rows so far", style="yellow")
    return rounds


def _outside(run: RunDir, to: str) -> None:
    """Raise ConfigError for a target among the run's own files."""
    target = Path(to).resolve()
    if run.local and any(target.is_relative_to((run.local / name).resolve()) for name in OWN):
        raise ConfigError(f"--to {to} is among the files of the run; choose a place beside them.")


if __name__ == "__main__":
    main(export)
