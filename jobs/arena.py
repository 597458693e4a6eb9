"""Methods or settings side by side, at equal compute: python -m jobs.arena ARENA.yaml [--to DIR]"""

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from jobs.common import AddressOption, SetOption, check_run, main, recipe_path, runs_folder, say
from jobs.planning import show_totals
from pipeline import cluster
from pipeline.config import Arena, arena_overrides, load_section
from pipeline.errors import ConfigError, nearest
from pipeline.places import ARENAS
from stages.arena.lineup import Lineup
from stages.reports.arena_tables import show


def arena(
    arena: Annotated[str, typer.Argument(help="a YAML file, or a name of jobs/arenas such as accumulation")],
    to: Annotated[
        str | None, typer.Option("--to", help="folder of the arena; default: data/runs/<its name>")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="say what all arms and seeds will take, and exit")
    ] = False,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            "--seed",
            help="only the runs of this seed: commands for different seeds may run side by side (repeatable)",
        ),
    ] = None,
    set: SetOption = None,
    address: AddressOption = None,
) -> None:
    """Run every arm with every seed, compare them, and write arena.json, arena.md, arena.png, report.html.

    Arms share what they have in common. The same command resumes, with a larger budget too: --set
    budget.hours=12. A setting of the recipe, for all arms: --set set.train.max_steps=40
    """
    settings, place = load_section(_path(arena), Arena, arena_overrides(set or ()))
    folder = str(runs_folder("--to") / settings.name) if to is None else to
    _check_folder(folder)
    lineup = Lineup(settings, place, folder, recipe_path)
    if plan:
        from stages.arena.planning import plan as make_plan

        show_totals(make_plan(lineup))
        return
    from stages.arena.running import run

    lineup.entries()  # mistakes in the arena are found before Ray starts
    cluster.connect(address or lineup.recipe(settings.against, settings.seeds[0]).runner.address)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as in jobs.common.open_run
    say(f"arena: {lineup.folder}")
    outcome, found = asyncio.run(run(lineup, seed or ()))
    show(found)
    say(
        f"written: {lineup.folder}/report.html, arena.md, arena.json"
        + (", arena.png" if found["arms"] else "")
    )
    if outcome.failed:
        raise ConfigError(f"{len(outcome.failed)} runs failed; the same command tries them again.")


def _path(name: str) -> str:
    """Return the path of an arena: a file, or a shipped one by name."""
    shipped = {path.stem: path for path in ARENAS.glob("*.yaml")}
    if os.path.isfile(name):
        return name
    if path := shipped.get(name.removesuffix(".yaml")):
        return str(path)
    near = nearest(name.removesuffix(".yaml"), shipped)
    hint = f" Did you mean {near!r}?" if near else ""
    raise ConfigError(f"{name}: no such arena.{hint} Shipped: {', '.join(sorted(shipped))}")


def _check_folder(folder: str) -> None:
    check_run(folder, "--to")
    cluster.check_run_path(folder)
    if "://" in folder:
        raise ConfigError(f"--to {folder}: an arena needs a mounted file system, for its trainings.")
    if (Path(folder) / "run.yaml").exists():
        raise ConfigError(f"--to {folder}: there is a run here; give an arena a folder of its own.")


if __name__ == "__main__":
    main(arena)
