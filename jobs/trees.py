"""Draws a search tree: what was done, how often it was gone through, what it was worth, what was learnt from it, where the error was."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree as Drawing

from jobs.showing import show
from pipeline import overview
from pipeline.console import console
from pipeline.errors import ConfigError, SelfloopError
from pipeline.printable import one_line, printable
from pipeline.rows import Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.store import files, parts

WIDTH = 160  # of a file
ACTION, OBSERVATION = 60, 90  # characters shown of each


def trees(run: RunDir, round_: RoundKey, row: str | None) -> list[dict[str, Any]]:
    """Return the trees that a round's generate stage has made so far, or those whose row id begins with `row`.

    Each has `id`, `task`, `nodes`, the counts of the `search`, and the `records` that critique made of it, with what became of each.
    """
    found = list(_trees(run, round_, row))
    records: dict[str, list[dict[str, Any]]] = {r.id: [] for r in found}
    fates = _fates(run, round_)
    for record in _rows(run, run.stage(round_, "critique")):
        for parent in record.parents:
            if parent in records:
                kept = {k: record.payload.get(k) for k in ("kind", "leaves", "prefix", "t_prime", "judge")}
                records[parent].append({"id": record.id, "fate": fates.get(record.id, ""), **kept})
    return [
        {
            "id": r.id,
            "task": r.payload["question"],
            "nodes": r.payload["tree"],
            "search": r.payload["search"],
            "records": records[r.id],
        }
        for r in found
    ]


def _trees(run: RunDir, round_: RoundKey, row: str | None) -> Iterator[Row]:
    return (
        r
        for r in _rows(run, run.stage(round_, "generate"))
        if "tree" in r.payload and (row is None or r.id.startswith(row))
    )


def round_with_tree(run: RunDir, row: str) -> RoundKey | None:
    """Return the last round that has a tree whose row id begins with `row`, None if there is none."""
    return next((r for r in reversed(run.rounds()) if any(_trees(run, r, row))), None)


def show_tree(run: RunDir, round_: RoundKey, row: str, to: str | None, full: bool) -> None:
    """Print the tree of one row, and write it to a file that ends in .svg or .html if one is named. Raises SelfloopError."""
    found = trees(run, round_, row)
    if len(found) != 1:
        there = (
            f"begins the ids of {len(found)} trees; give more of it"
            if found
            else f"is no tree of round {round_} (selfloop inspect --stage generate shows ids)"
        )
        raise SelfloopError(f"--tree {row!r}: it {there}.")
    drawing = draw(found[0], full)
    show(one_line(found[0]["task"], 200), style="bold")
    show(", ".join(f"{name} {value}" for name, value in found[0]["search"].items()))
    console.print(drawing, soft_wrap=False)
    for record in found[0]["records"]:
        show(_told(record))
    if to:
        save(drawing, to, one_line(found[0]["task"], 80))
        show(f"written to {to}")


def save(drawing: Drawing, to: str, title: str) -> None:
    """Write a drawing as .svg or .html; what a model wrote is escaped. Raises ConfigError for another ending."""
    ending = Path(to).suffix.lower()
    if ending not in (".svg", ".html"):
        raise ConfigError(f"--to {to!r}: expected a file that ends in .svg or .html")
    recorder = Console(
        record=True, width=WIDTH, file=io.StringIO(), color_system="truecolor", force_terminal=True
    )
    recorder.print(drawing)
    text = recorder.export_svg(title=printable(title)) if ending == ".svg" else recorder.export_html()
    files.write_bytes(to, text.encode())


def draw(tree: dict[str, Any], full: bool = False) -> Drawing:
    """Return the tree as rich draws it. Without `full`, children that were never gone on with are only counted."""
    nodes = tree["nodes"]
    below: dict[int, list[dict[str, Any]]] = {}
    for node in nodes[1:]:
        below.setdefault(node["parent"], []).append(node)
    marks, wrong = _marks(tree["records"])
    drawing = Drawing(_label(nodes[0], marks, wrong))
    stack = [(drawing, nodes[0])]
    while stack:
        branch, node = stack.pop()
        hidden = 0
        for child in below.get(node["id"], []):
            if full or child["visits"] or child["id"] in below or child["id"] in marks:
                stack.append((branch.add(_label(child, marks, wrong)), child))
            else:
                hidden += 1
        if hidden:
            branch.add(Text(f"{hidden} more, not gone on with", style="dim"))
    return drawing


def _label(node: dict[str, Any], marks: dict[int, list[str]], wrong: set[int]) -> Text:
    action = one_line(node["action"], ACTION) or "(no action)" if node["parent"] is not None else "start"
    text = Text(action, style="bold" if node["id"] not in wrong else "bold red")
    mean = f"{node['value'] / node['visits']:.2f}" if node["visits"] else "-"
    text.append(f"  visits {node['visits']}, value {mean}", style="cyan")
    if node["end"]:
        text.append(
            f"  {node['end']}, reward {node['reward']:g}", style="green" if node["reward"] >= 1 else "yellow"
        )
    if node["id"] in wrong:
        text.append("  <- judged bad", style="red")
    for mark in marks.get(node["id"], []):
        text.append(f"  [{mark}]", style="magenta")
    text.append(f"  {one_line(node['observation'], OBSERVATION)}", style="dim")
    return text


def _marks(records: Iterable[dict[str, Any]]) -> tuple[dict[int, list[str]], set[int]]:
    """Return for each leaf what it was used for, and the nodes that the judge found bad."""
    used: dict[int, dict[str, int]] = {}
    wrong: set[int] = set()
    for record in records:
        for name, leaf in zip(("good", "bad"), record["leaves"], strict=False):
            kind = f"{name} of pairs" if record["kind"] == "revision" else "learnt whole"
            counts = used.setdefault(leaf, {})
            counts[kind] = counts.get(kind, 0) + 1
        wrong |= {j["node"] for j in record["judge"] or () if j["judgement"] == "bad"}
    return {leaf: [f"{kind}: {n}" for kind, n in counts.items()] for leaf, counts in used.items()}, wrong


def _told(record: dict[str, Any]) -> str:
    fate = record["fate"] or "verified or under way"
    if record["kind"] != "revision":
        return f"{record['id']}  {record['kind']}: leaf {record['leaves'][0]}; {fate}"
    way = f"turns round after step {record['t_prime']}" if record["t_prime"] else "has no place to turn round"
    return f"{record['id']}  revision: bad leaf {record['leaves'][1]} {way} (in common: {record['prefix']}) and goes on as leaf {record['leaves'][0]}; {fate}"


def _rows(run: RunDir, folder: str) -> Iterator[Row]:
    for path in overview.row_parts(folder):
        yield from parts.read_rows(path)


def _fates(run: RunDir, round_: RoundKey) -> dict[str, str]:
    """Return why filter or verify dropped a record, by the record's id; a record that verify saw is there under its filter row's id."""
    fates = {
        r["id"]: f"dropped by filter: {r['reason']}"
        for r in run.rejects(run.stage(round_, "filter"), "dropped")
    }
    after = {
        r["id"]: f"dropped by verify: {r['reason']}"
        for r in run.rejects(run.stage(round_, "verify"), "dropped")
    }
    seen = {r.id: r.parents for r in _rows(run, run.stage(round_, "filter"))}
    return fates | {parent: after[i] for i, parents in seen.items() if i in after for parent in parents}
