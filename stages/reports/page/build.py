"""Puts a page together: the sections of every run, the comparison of several, and the rows."""

import functools
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline import overview
from pipeline.console import progress as console
from pipeline.printable import one_line
from pipeline.rundir import RunDir
from pipeline.store import files
from stages.reports.page import samples
from stages.reports.page.compared import compared
from stages.reports.page.embed import packed, safe, signed, source_hash
from stages.reports.page.figures import facts_of
from stages.reports.page.ways import Ancestors, Pool, record

Facts = dict[str, Any]
NAME = "report.html"
HERE = Path(__file__).parent
ORDER = overview.ROUND_STAGES
PER_CHUNK = 250  # rows that are unpacked together
TEXT, TEXT_OF_MANY = 20_000, 4_000  # characters shown of one text, and where there are MANY rows
MANY = 5_000
BY_LOOP = 5_000  # rows in the page that `iterate` writes after each round


def write(runs: Sequence[RunDir], path: str, title: str = "", rows: int = samples.ROWS) -> None:
    """Write the page of a run, or of several side by side, to `path`, atomically.

    `title` replaces the run's name, or the number of runs. At most `rows` rows can be looked at, and all
    flips. Raises SelfloopError for a folder without a run.
    """
    files.write_bytes(path, render(runs, title, rows).encode())


def try_write(runs: Sequence[RunDir], folder: str, title: str = "") -> None:
    """Write report.html into a folder. No run ends for its report: what goes wrong is said in a line."""
    try:
        write(runs, files.join(folder, NAME), title, rows=BY_LOOP)
    except Exception as e:
        problem = one_line(f"{type(e).__name__}: {e}", 200)
        console.print(f"note: {NAME} was not written ({problem})", markup=False)


def render(runs: Sequence[RunDir], title: str = "", rows: int = samples.ROWS, version: str = "") -> str:
    """Return the page as HTML. With `version` it asks its server whether there is a newer one."""
    facts = [facts_of(run) for run in runs]
    names = _names(facts)
    chosen = [samples.choose(run, f["rounds"], rows // len(runs)) for run, f in zip(runs, facts, strict=True)]
    style, script = ((HERE / name).read_text() for name in ("report.css", "report.js"))
    index, chunks = _rows(runs, chosen, names)
    return _template().render(
        title=title or (facts[0]["name"] if len(facts) == 1 else f"{len(facts)} runs"),
        runs=[
            {**f, "label": name, "key": f"run-{i}", "index": i}
            for i, (f, name) in enumerate(zip(facts, names, strict=True))
        ],
        comparison=compared(runs) if len(runs) > 1 else None,
        style=style,
        script=script,
        style_hash=source_hash(style),
        script_hash=source_hash(script),
        index=index,
        chunks=chunks,
        shown=sum(len(c.rows) for c in chosen),
        rows=sum(c.totals.total() for c in chosen),
        written=time.strftime("%d %B %Y, %H:%M", time.localtime()),
        version=version,
    )


def _names(facts: Sequence[Facts]) -> list[str]:
    """Return what tells the runs apart: their names, else their folders' names, else their paths."""
    roots = [f["root"] for f in facts]
    for names in ([f["name"] for f in facts], [root.rstrip("/").rsplit("/", 1)[-1] for root in roots]):
        if len(set(names)) == len(names):
            return names
    return roots


def _rows(
    runs: Sequence[RunDir], chosen: Sequence[samples.Samples], names: list[str]
) -> tuple[str, list[str]]:
    """Return the rows' index and their chunks, packed. The index has a small number per row and column."""
    ordered = [(i, s) for i, one in enumerate(chosen) for s in sorted(one.rows, key=_place)]
    columns: dict[str, list[Any]] = {
        name: [] for name in ("run", "round", "stage", "outcome", "reason", "flip")
    }
    values: dict[str, dict[Any, int]] = {name: {} for name in columns}
    for i, s in ordered:
        for name, value in zip(columns, (i, *s.kind), strict=True):
            columns[name].append(values[name].setdefault(_shown(value), len(values[name])))
    limit = TEXT if len(ordered) <= MANY else TEXT_OF_MANY
    ancestors = [Ancestors(run, one.rows) for run, one in zip(runs, chosen, strict=True)]
    chunks = []
    for start in range(0, len(ordered), PER_CHUNK):
        pool = Pool(limit)
        some = [record(s, ancestors[i], pool) for i, s in ordered[start : start + PER_CHUNK]]
        chunks.append(packed({"rows": some, "pool": pool.values}))
    index = {"columns": columns, "values": {k: list(v) for k, v in values.items()}, "chunk": PER_CHUNK}
    totals = [[i, *map(_shown, kind), n] for i, one in enumerate(chosen) for kind, n in one.totals.items()]
    return packed(
        {**index, "runs": names, "roots": [shlex.quote(run.root) for run in runs], "totals": totals}
    ), chunks


def _shown(value: Any) -> Any:
    return safe(value, 80) if isinstance(value, str) else value


def _place(sample: samples.Sample) -> Any:
    """Order rows: the last round first; in it flips, then what was kept, then by stage and question."""
    kind, task = sample.kind, str(sample.payload.get("task_id"))
    round_ = -1 if isinstance(kind.round, str) else kind.round
    stage = ORDER.index(kind.stage) if kind.stage in ORDER else len(ORDER)
    kept = kind.outcome in (samples.PUBLISHED, samples.KEPT, samples.PAIRED, samples.LABELLED)
    return (-round_, not kind.flip, not kept, stage, task, sample.id)


def _percent(share: float, digits: int = 1) -> str:
    return f"{share:.{digits}%}"


@functools.cache
def _template() -> Any:
    loader = FileSystemLoader(HERE)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=loader, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": _percent,
        "signed": signed,
        "number": lambda v: "" if v is None else f"{v:,.0f}",
    }
    return environment.get_template("report.html.jinja")
