"""The command `selfloop`: every job is a subcommand, imported when called so that --help is fast."""

import importlib
import importlib.metadata
import os
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# Command -> what it does. The job is the function of that name in jobs/<command>.py.
COMMANDS = {
    "recipes": "List the recipes that ship with selfloop.",
    "init": "Write a starter recipe for your own questions.",
    "iterate": "Run the whole loop, round after round, or resume it.",
    "generate": "One round: sample from the model.",
    "critique": "One round: critique what was generated.",
    "filter": "One round: drop malformed rows.",
    "verify": "One round: keep the correct rows.",
    "publish": "One round: write the verified rows (and preference pairs) as datasets.",
    "train": "One round: train on the accumulated data.",
    "evaluate": "One round: measure the model on the held-out set.",
    "runs": "List runs with their state and result.",
    "inspect": "Look at a run and its rows, even while it is running; or at a dataset.",
    "export": "Write a stage's rows as a table: Parquet, JSON lines, CSV or a dataset.",
    "query": "Ask a run with SQL: dropped rows, requests, rounds.",
    "trace": "Follow one row from its task through every request to the published example.",
    "branch": "Start a run from a round of another one, with other settings.",
    "reverify": "Run other filters and verifiers over the stored answers of a run.",
    "compare": "Compare runs by method and policy.",
    "report": "Write a run, or several side by side, as one HTML file.",
    "view": "Show that report in a browser while the run goes on.",
    "arena": "Compare methods or settings over seeds, at equal compute.",
    "scaling": "Plot accuracy against tokens over runs of continued pretraining.",
    "push": "Push datasets and models to the Hub, with cards.",
    "serve": "Keep engines warm on a cluster, for many jobs.",
    "doctor": "Check the machine, the run directory and Ray.",
}
HELP = "Have a language model generate training data, verify it, train on it, and repeat."


class Jobs(TyperGroup):
    """The commands: names and one-line helps from the table above, everything else from their modules."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a placeholder that suffices for help texts."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the real command, importing its module."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, rest


def load(name: str) -> Any:
    """Import a job and return it as a command."""
    from jobs.common import job

    app = typer.Typer(add_completion=False)
    app.command(name)(job(getattr(importlib.import_module(f"jobs.{name}"), name)))
    return typer.main.get_command(app)


app = typer.Typer(cls=Jobs, no_args_is_help=True, add_completion=False, help=HELP)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            version = importlib.metadata.version("selfloop")
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
        print(f"selfloop {version}")
        raise typer.Exit


@app.callback(help=HELP)
def selfloop(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="print the version and exit"
    ),
) -> None:
    """Take the options that precede a command."""


def main() -> None:
    """Run the command line."""
    # As with `python -m`: a recipe's 'module:function' may be in the working directory.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    app(prog_name="selfloop" if os.path.basename(sys.argv[0]) == "selfloop" else "python -m jobs")


if __name__ == "__main__":
    main()
