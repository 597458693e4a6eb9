"""What all jobs share: options, finding a recipe, opening a run, and errors shown as messages."""

import errno
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

import stages  # noqa: F401 - registers the built-in methods, sources and verifiers
from pipeline import cluster
from pipeline.config import Recipe, load_recipe
from pipeline.console import progress as messages
from pipeline.errors import ConfigError, SelfloopError, nearest, raised_at
from pipeline.places import CHECKOUT, PROJECT, RECIPES
from pipeline.rundir import RunDir
from pipeline.store import files
from pipeline.store.full import full_disk
from pipeline.store.lock import run_lock
from pipeline.trackers import tracked

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
    typer.Option("--set", metavar="KEY=VALUE", help="override a recipe setting, such as train.epochs=2"),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address", help="Ray cluster; default: the one this job was submitted to, else a local one"
    ),
]
OldOutOption = Annotated[str | None, typer.Option("--out", hidden=True)]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON only")]

# A wrong path on the command line, or a file that was moved.
BAD_PATH = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)


def job(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function a job: expected errors become a message and exit status 2, Ctrl-C becomes 130."""

    @functools.wraps(function)
    def run_job(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except SelfloopError as e:
            error = str(e)
        except OSError as e:
            if e.filename is not None and (isinstance(e, BAD_PATH) or e.errno == errno.ENAMETOOLONG):
                error = f"{e.filename2 or e.filename}: {e.strerror} ({raised_at(e)})"
            elif (full := full_disk(e, e.filename or os.getcwd())) is not None:
                error = full
            else:
                raise
        except KeyboardInterrupt:
            messages.print("stopped. Finished work is kept; the same command resumes here.")
            raise typer.Exit(130) from None
        messages.print(f"error: {error}", markup=False, style="red")
        raise typer.Exit(2)

    return run_job


def main(function: Callable[..., Any]) -> None:
    """Run a job's module as a program."""
    typer.run(job(function))


def recipe_path(name: str) -> str:
    """Return the path of a recipe: a file, or a shipped recipe by name ("quickstart", "laptop/gsm8k", with or
    without .yaml).

    A path into jobs/ or jobs/recipes/ that does not exist here is taken for the shipped recipe of that name.
    """
    if not name.strip():
        raise ConfigError(
            "RECIPE is empty (an unset variable?): a YAML file, or a name of `selfloop recipes`."
        )
    if os.path.isfile(name) or "://" in name:
        return name
    shipped, plain = shipped_recipes(), name.removesuffix(".yaml")
    if path := shipped.get(plain):
        return str(path)
    if path := shipped.get(plain.removeprefix("jobs/").removeprefix("recipes/")):
        messages.print(f"{name}: no such file; using the shipped recipe {path}", markup=False, style="dim")
        return str(path)
    if os.path.isdir(name):
        raise ConfigError(f"{name} is a folder; expected a recipe, a YAML file such as {name}/run.yaml.")
    folder, stem = os.path.split(plain)
    nearby = {p.stem: str(p) for p in Path(folder or ".").glob("*.yaml")}
    near = nearby.get(stem) or nearest(plain, shipped) or nearest(stem, shipped)
    near = near or nearby.get(nearest(stem, nearby) or "")
    hint = f" Did you mean {near!r}?" if near else ""
    raise ConfigError(
        f"{name}: no such recipe, neither a file nor one that ships with selfloop.{hint} "
        "`selfloop recipes` lists those that ship; `selfloop init my.yaml` writes a new one."
    )


def shipped_recipes() -> dict[str, Path]:
    """Return the shipped recipes by name, quickstart first and those in folders last."""
    named = {p.relative_to(RECIPES).with_suffix("").as_posix(): p for p in RECIPES.rglob("*.yaml")}
    order = sorted(named, key=lambda name: (name != "quickstart", "/" in name, name))
    return {name: named[name] for name in order}


@contextmanager
def open_run(
    run: str, recipe: str | None, overrides: list[str] | None, address: str | None
) -> Iterator[tuple[RunDir, Recipe]]:
    """Open a run for writing: lock it, freeze its recipe or compare with the frozen one.

    Connects to a cluster at once, so that one that does not answer is an error now. A local Ray takes
    seconds to start, so it starts when the job needs it.
    """
    cluster.check_run_path(run)
    check_run(run)
    directory = RunDir(run)
    with ExitStack() as resources:
        resources.enter_context(run_lock(directory.local))
        settings = _settings(directory, recipe, overrides)
        resources.enter_context(tracked(directory, settings))
        settings = at_address(settings, address)
        if cluster.is_local(settings.runner.address):
            say(f"to do this on a cluster: {cluster.submit_line(as_module(sys.argv))}", style="dim")
        else:
            cluster.connect(settings.runner.address)
        # `ray job stop` and schedulers send SIGTERM: leave as with Ctrl-C, releasing engines and locks.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with _errors_kept(directory):
            yield directory, settings


def at_address(recipe: Recipe, address: str | None) -> Recipe:
    """Return the recipe with the Ray cluster of the option --address, if it is given."""
    if not address:
        return recipe
    return recipe.model_copy(update={"runner": recipe.runner.model_copy(update={"address": address})})


@contextmanager
def _errors_kept(run: RunDir) -> Iterator[None]:
    """Store the error that ends a run in its error.json, for `selfloop runs`; the next start removes it."""
    path = run.path("error.json")
    files.remove(path)
    try:
        yield
    except Exception as e:
        full = None if isinstance(e, SelfloopError) else full_disk(e, run.root)
        with suppress(Exception):  # a full disk, which is the error itself
            files.write_json(path, {"error": full or str(e) or type(e).__name__, "time": time.time()})
        if full:
            raise SelfloopError(full) from e
        raise


def _settings(directory: RunDir, recipe: str | None, overrides: list[str] | None) -> Recipe:
    if recipe is not None:
        return directory.freeze(load_recipe(recipe_path(recipe), overrides or ()))
    if not directory.exists():
        raise ConfigError(
            f"{directory.root}: no run here yet. Start one with --recipe RECIPE (a file, or a name that "
            "`selfloop recipes` lists)."
        )
    if overrides:
        return directory.freeze(load_recipe(directory.path("run.yaml"), overrides))
    return directory.recipe()


def check_run(run: str, option: str = "--run") -> None:
    """Raise ConfigError for a run directory that is empty text, a file, or below one."""
    if not run.strip():
        raise ConfigError(f"{option} is empty (an unset variable?): give the path of the run directory.")
    path = Path(run).absolute()
    if "://" not in run and (file := next((p for p in (path, *path.parents) if p.is_file()), None)):
        raise ConfigError(f"{option} {run}: {file} is a file; expected the folder of a run.")


def existing_runs(runs: list[str]) -> list[RunDir]:
    """Return the run directories to compare. Raises SelfloopError for one without a run, or named twice."""
    for run in runs:
        check_run(run, "RUN")
    directories = [RunDir(run) for run in runs]
    for directory in directories:
        if not directory.exists():
            raise SelfloopError(f"{directory.root}: no run here (run.yaml is missing)")
    roots = [os.path.realpath(directory.root) for directory in directories]
    if twice := next((root for i, root in enumerate(roots) if root in roots[:i]), None):
        raise SelfloopError(f"{twice}: named twice; it would count as two seeds.")
    return directories


def default_run(recipe: Recipe) -> str:
    """Return the run directory used when none is given: data/runs/<name>, in the checkout if there is one."""
    return str(runs_folder() / recipe.name)


def runs_folder(option: str = "--run") -> Path:
    """Return the folder of runs for which `option` is not given. Raises ConfigError in a submitted job."""
    if os.environ.get("RAY_JOB_ID") or "/runtime_resources/" in os.getcwd():
        raise ConfigError(
            f"{option}: a submitted job needs an absolute path outside the uploaded working directory."
        )
    return (PROJECT if CHECKOUT else Path.cwd()) / "data" / "runs"


def say(text: str, style: str = "") -> None:
    """Print plain text about what is going on to stderr, without reading markup in it."""
    messages.print(text, markup=False, style=style)


def one_name(to: str | None, out: str | None) -> str | None:
    """Return the value of --to, or of --out, as it was called before."""
    if out is None:
        return to
    if to is not None:
        raise ConfigError(f"--to {to} and --out {out} are the same option: give --to alone.")
    say("note: --out is now called --to", style="dim")
    return out


def as_module(argv: list[str]) -> list[str]:
    """Return the command line `selfloop train ...` as that of the module jobs/train.py, for hints."""
    command = os.path.basename(argv[0])
    return argv[1:] if command in ("selfloop", "__main__.py", "cli.py") and len(argv) > 1 else argv
