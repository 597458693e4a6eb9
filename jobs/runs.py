"""The runs in a folder, with state and result: python -m jobs.runs [FOLDER]"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from jobs.common import JsonOption, main, runs_folder
from jobs.showing import print_json, show
from pipeline.console import console
from pipeline.display import round_title
from pipeline.errors import SelfloopError
from pipeline.printable import one_line
from pipeline.run_state import state_of
from pipeline.rundir import RunDir
from stages.reports.table import interval

DEPTH = 3  # folders below FOLDER in which runs are looked for
STYLES = {"finished": "green", "under way": "cyan", "failed": "red", "unreadable": "red"}


def runs(
    folder: Annotated[
        str | None, typer.Argument(help="where the runs are; default: data/runs", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, the last changed first: state, last result with its 95% interval, age, recipe. Read-only."""
    place = Path(folder) if folder is not None else runs_folder()
    if folder is not None and not place.is_dir():
        raise SelfloopError(f"{place}: no such folder.")
    listed = sorted((_facts(path) for path in _found(place)), key=lambda r: r["changed"] or 0, reverse=True)
    if as_json:
        print_json(listed)
    elif not listed:
        show(f"no runs in {place}. Start one: selfloop iterate RECIPE (see selfloop recipes)")
    else:
        _print(place, listed)


def _found(place: Path) -> list[Path]:
    """Return the run directories in a folder, which may itself be one; nothing is looked for inside a run."""
    found, level = [], [place]
    for _ in range(DEPTH + 1):
        found += [p for p in level if (p / "run.yaml").is_file()]
        outside = (p for p in level if not (p / "run.yaml").is_file())
        level = [child for p in outside for child in _folders(p)]
    return found


def _folders(path: Path) -> list[Path]:
    try:
        return [p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except OSError:
        return []


def _facts(path: Path) -> dict[str, Any]:
    """Return a run's line. Keys are stable: `--json` prints them."""
    facts = {
        "run": str(path),
        **dict.fromkeys(("recipe", "method", "model", "round", "stage", "rows", "error")),
    }
    facts |= dict.fromkeys(("evaluated", "n", "greedy", "changed"))
    try:
        return facts | state_of(RunDir(path))
    except SelfloopError as e:
        return facts | {"state": "unreadable", "error": str(e), "changed": path.stat().st_mtime}


def _print(place: Path, listed: list[dict[str, Any]]) -> None:
    table = Table("run", "state", "last result", "changed", "recipe", show_edge=False, pad_edge=False)
    for run in listed:
        state = Text(one_line(_state(run), 160), style=STYLES.get(run["state"], "yellow"))
        path = Path(run["run"])
        name = str(path.relative_to(place)) if path != place else str(path)
        made = ", ".join(str(run[key]) for key in ("recipe", "method", "model") if run[key])
        cells = (name, state, _result(run), _ago(run["changed"]), made)
        table.add_row(*(c if isinstance(c, Text) else Text(one_line(c, 300)) for c in cells))
    console.print(table, soft_wrap=False)
    show(f"in {place}. Look at one: selfloop inspect {listed[0]['run']}")


def _state(run: dict[str, Any]) -> str:
    where = f"{run['stage']} of {round_title(run['round'])}" if run["stage"] else ""
    rows = run["rows"] or {}
    done = f", {rows['in']:,}{_of(rows['expected'])} rows" if rows.get("in") else ""
    if run["state"] in ("finished", "unreadable"):
        return run["state"] if run["state"] == "finished" else f"unreadable: {run['error']}"
    if run["state"] == "failed":
        return f"failed in {where or 'its setup'}: {run['error']}"
    return (
        f"{run['state']}{': ' if run['state'] == 'under way' else ' at '}{where}{done}"
        if where
        else run["state"]
    )


def _of(expected: int | None) -> str:
    return "" if expected is None else f"/{expected:,}"


def _result(run: dict[str, Any]) -> str:
    return f"{interval(run['greedy'])} {round_title(run['evaluated'])}" if run["greedy"] else ""


def _ago(changed: float | None) -> str:
    """Return how long ago a time (in seconds since 1970) was."""
    if changed is None:
        return ""
    seconds = max(0.0, time.time() - changed)
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"


if __name__ == "__main__":
    main(runs)
