"""The report of a run, served on this machine while the run goes on: python -m jobs.view RUN [RUN ...]"""

from typing import Annotated

import typer

from jobs.common import existing_runs, main, say
from pipeline.errors import ConfigError

PORT = 7370


def view(
    runs: Annotated[
        list[str], typer.Argument(help="run directories; several are compared", show_default=False)
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="port on 127.0.0.1; 0: any free one")] = PORT,
    rows: Annotated[
        int, typer.Option(min=0, help="most rows that can be looked at one by one; flips always are")
    ] = 5_000,
) -> None:
    """Serve the report in a browser; it reloads as the run goes on. Read-only, and for this machine alone.

    From elsewhere, forward the port: ssh -L 7370:127.0.0.1:7370 HOST
    """
    from stages.reports.live import Server  # matplotlib: half a second that other jobs do without

    directories = existing_runs(runs)
    try:
        server = Server(directories, port, rows)
    except OSError as e:
        raise ConfigError(f"--port {port}: {e.strerror}. Give another one, or 0 for any free one.") from None
    with server:
        say(f"report of {', '.join(run.root for run in directories)}")
        say(f"http://127.0.0.1:{server.port}/  (Ctrl-C ends it)", style="bold")
        server.serve_forever()


if __name__ == "__main__":
    main(view)
