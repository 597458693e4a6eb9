"""A run, or several side by side, as one HTML file: python -m jobs.report RUN [RUN ...] [-o FILE]"""

import os
from typing import Annotated

import typer

from jobs.common import existing_runs, main, say
from pipeline.errors import ConfigError
from pipeline.store import files


def report(
    runs: Annotated[
        list[str], typer.Argument(help="run directories; several are compared", show_default=False)
    ],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            "-o",
            metavar="FILE",
            help="the file to write; default: report.html in the run directory, or here for several runs",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=0, help="most rows that can be looked at one by one; flips always are")
    ] = 50_000,
) -> None:
    """Write one HTML file that shows a run: results, data, training, texts, cost, and its rows.

    The file needs no network: send it, or keep it with the run. `iterate` writes it after every round.
    """
    from stages.reports.page import NAME, write  # matplotlib: half a second that other jobs do without

    directories = existing_runs(runs)
    path = to or (directories[0].path(NAME) if len(directories) == 1 else NAME)
    if os.path.isdir(path):
        raise ConfigError(
            f"--to {path}: a folder; expected the file to write, such as {files.join(path, NAME)}."
        )
    write(directories, path, rows=rows)
    say(f"written: {path} ({files.size(path) / 1e6:.1f} MB)")


if __name__ == "__main__":
    main(report)
