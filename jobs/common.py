"""What all jobs share: their options, opening a run, and errors that are shown as messages."""

import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

import stages  # noqa: F401 - makes the built-in methods, sources and verifiers known
from pipeline.config import Recipe, load_recipe
from pipeline.console import console
from pipeline.errors import ConfigError, SelfloopError, raised_at
from pipeline.places import PROJECT
from pipeline.rundir import RunDir
from pipeline.store.lock import run_lock

RunOption = Annotated[
    str,
    typer.Option("--run", help="run directory: a path, or a URL such as s3://bucket/run", show_default=False),
]
RoundOption = Annotated[
    int,
    typer.Option(
        "--round",
        min=0,
        help="round number; 0 is the model trained on the demonstrations alone",
        show_default=False,
    ),
]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help="recipe to start the run with, if there is no run yet")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="override a setting of the recipe, such as train.epochs=2"
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address", help="Ray cluster; default: the one this job was submitted to, else a local one"
    ),
]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # or no longer to be written to
# A path that somebody gave, or a file that somebody moved.
NO_PLACE = (
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
)


def job(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function a job: a SelfloopError, a full disk or a path that cannot be becomes a message and exit status 2, Ctrl-C tells how to go on."""

    @functools.wraps(function)
    def run_job(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except SelfloopError as e:
            console.print(f"error: {e}", markup=False, style="red")
            raise typer.Exit(2) from None
        except OSError as e:
            if e.errno in NO_PLACE and e.filename is not None:
                console.print(
                    f"error: {e.filename2 or e.filename}: {e.strerror} ({raised_at(e)})",
                    markup=False,
                    style="red",
                )
                raise typer.Exit(2) from None
            if e.errno not in FULL:
                raise
            console.print(
                f"error: {e}. What was written so far is kept: make room, then start the same command again.",
                markup=False,
                style="red",
            )
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            console.print("stopped. What is done is kept; the same command goes on from here.")
            raise typer.Exit(130) from None

    return run_job


def main(function: Callable[..., Any]) -> None:
    """Run a job's module as a program."""
    typer.run(job(function))


@contextmanager
def opened(
    run: str, recipe: str | None, overrides: list[str] | None, address: str | None
) -> Iterator[tuple[RunDir, Recipe]]:
    """Open a run for writing: lock it, freeze or compare its recipe, connect to Ray."""
    from pipeline import cluster  # it imports Ray, which jobs that only read do without

    cluster.check_run_path(run)
    directory = RunDir(run)
    with run_lock(directory.local):
        settings = _settings(directory, recipe, overrides)
        cluster.connect(address or settings.runner.address)
        # `ray job stop` and schedulers send SIGTERM: leave as with Ctrl-C, engines and locks given up. (Ray has set its own handler.)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        console.print(
            f"to do this on a cluster: {cluster.submit_line(as_module(sys.argv))}", style="dim", markup=False
        )
        yield directory, settings


def _settings(directory: RunDir, recipe: str | None, overrides: list[str] | None) -> Recipe:
    if recipe is not None:
        return directory.freeze(load_recipe(recipe, overrides or ()))
    if not directory.exists():
        raise ConfigError(
            f"{directory.root}: no run here yet. Start one with --recipe RECIPE (recipes that come with selfloop are in jobs/recipes/*.yaml)."
        )
    if overrides:
        return directory.freeze(load_recipe(directory.path("run.yaml"), overrides))
    return directory.recipe()


def existing_runs(runs: list[str]) -> list[RunDir]:
    """Return the run directories that a comparison is asked about. Raises SelfloopError for one that is none."""
    directories = [RunDir(run) for run in runs]
    for directory in directories:
        if not directory.exists():
            raise SelfloopError(f"{directory.root}: no run here (run.yaml is missing)")
    places = [os.path.realpath(directory.root) for directory in directories]
    if twice := next((place for i, place in enumerate(places) if place in places[:i]), None):
        raise SelfloopError(f"{twice}: named twice; as two runs it would count as two seeds.")
    return directories


def default_run(recipe: Recipe) -> str:
    """Return the run directory used when none is given: data/runs/<name> in the project."""
    if os.environ.get("RAY_JOB_ID") or "/runtime_resources/" in os.getcwd():
        raise ConfigError(
            "--run: a submitted job needs an absolute path outside the uploaded working directory."
        )
    return str(PROJECT / "data" / "runs" / recipe.name)


def say(text: str) -> None:
    """Print plain text (nothing in it is read as markup)."""
    console.print(text, markup=False)


def as_module(argv: list[str]) -> list[str]:
    """Return a command line as if the job's own module had been started, for hints: `selfloop train ...` is jobs/train.py."""
    return (
        argv[1:]
        if os.path.basename(argv[0]) in ("selfloop", "__main__.py", "cli.py") and len(argv) > 1
        else argv
    )
