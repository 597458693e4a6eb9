"""The command `selfloop`: every job as a subcommand. A job's module is imported only when it is called, so that --help is fast."""

import importlib
import importlib.metadata
import os
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# Command -> what it does, in the order of a run. The job is the function of that name in jobs/<command>.py.
COMMANDS = {
    "iterate": "The whole loop, round after round. The same command goes on after an interruption.",
    "generate": "One round: sample from the model.",
    "critique": "One round: criticise what was generated.",
    "filter": "One round: drop what is malformed.",
    "verify": "One round: keep what is right.",
    "publish": "One round: write the verified rows (and preference pairs) as datasets.",
    "train": "One round: train on the accumulated data.",
    "evaluate": "One round: measure the model on the held-out set.",
    "inspect": "Look at a run and its rows, also while it is running.",
    "trace": "Follow one row from its task through every request to the published example.",
    "branch": "Begin a run where another one is, to go on with other settings.",
    "compare": "Put runs side by side, by method and policy.",
    "scaling": "Plot accuracy against tokens over runs of continued pretraining.",
    "serve": "Keep engines warm on a cluster, for many jobs.",
    "doctor": "Check the machine, the run directory and Ray.",
}


class Jobs(TyperGroup):
    """The group of jobs: names and helps from the table above, the commands themselves from their modules."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a stand-in that help texts are made from."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the real command, and make it look as if its module had been started: hints repeat that line."""
        name, command, rest = super().resolve_command(ctx, args)
        if name not in COMMANDS:
            return name, command, rest
        return name, load(name), rest


def load(name: str) -> Any:
    """Import a job and return it as a command."""
    from jobs.common import job

    app = typer.Typer(add_completion=False)
    app.command(name)(job(getattr(importlib.import_module(f"jobs.{name}"), name)))
    return typer.main.get_command(app)


app = typer.Typer(
    cls=Jobs,
    no_args_is_help=True,
    add_completion=False,
    help="A language model makes its own training data, checks it, learns from it, and does so again.",
)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            version = importlib.metadata.version("selfloop")
        except importlib.metadata.PackageNotFoundError:  # run from its folder without being installed
            version = "(not installed)"
        print(f"selfloop {version}")
        raise typer.Exit


@app.callback()
def selfloop(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="print the version and stop"
    ),
) -> None:
    """A language model makes its own training data, checks it, learns from it, and does so again."""


def main() -> None:
    """Run the command line."""
    if os.getcwd() not in sys.path:  # as with `python -m`: a recipe's 'module:function' may lie beside it
        sys.path.insert(0, os.getcwd())
    app(prog_name="selfloop" if os.path.basename(sys.argv[0]) == "selfloop" else "python -m jobs")


if __name__ == "__main__":
    main()
