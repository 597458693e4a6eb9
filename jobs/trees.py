"""Draws a search tree: actions, visits, values, the use of each leaf, and where the judge saw an error."""

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
    """Return the trees a round's generate stage has grown so far, or those whose row id begins with `row`.

    Each has `id`, `task`, `nodes`, the counts of the `search`, and the `records` that critique derived from
    it, with their fates.
    """
    found: dict[str, dict[str, Any]] = {}
    for r in _trees(run, round_, row):
        p = r.payload
        found[r.id] = {
            "id": r.id,
            "task": p["question"],
            "nodes": p["tree"],
            "search": p["search"],
            "records": [],
        }
    fates = _fates(run, round_)
    for record in _rows(run.stage(round_, "critique")):
        kept = {k: record.payload.get(k) for k in ("kind", "leaves", "prefix", "t_prime", "judge")}
        for parent in (p for p in record.parents if p in found):
            found[parent]["records"].append({"id": record.id, "fate": fates.get(record.id, ""), **kept})
    return list(found.values())


def _trees(run: RunDir, round_: RoundKey, row: str | None) -> Iterator[Row]:
    rows = _rows(run.stage(round_, "generate"))
    return (r for r in rows if "tree" in r.payload and (row is None or r.id.startswith(row)))


def round_with_tree(run: RunDir, row: str) -> RoundKey | None:
    """Return the last round with a tree whose row id begins with `row`, or None."""
    return next((r for r in reversed(run.rounds()) if any(_trees(run, r, row))), None)


def show_tree(run: RunDir, round_: RoundKey, row: str, out: str | None, full: bool) -> None:
    """Print the tree of one row, and write it to `out` (.svg or .html) if given. Raises SelfloopError."""
    matches = trees(run, round_, row)
    if len(matches) != 1:
        raise SelfloopError(
            f"--tree {row!r}: the ids of {len(matches)} trees begin like this; give more characters."
            if matches
            else f"--tree {row!r}: no such tree in round {round_} (inspect --stage generate shows ids)."
        )
    tree = matches[0]
    drawing = draw(tree, full)
    show(one_line(tree["task"], 200), style="bold")
    show(", ".join(f"{name} {value}" for name, value in tree["search"].items()))
    console.print(drawing, soft_wrap=False)
    for record in tree["records"]:
        show(_record_line(record))
    if out:
        save(drawing, out, one_line(tree["task"], 80))
        show(f"written: {out}")


def save(drawing: Drawing, out: str, title: str) -> None:
    """Write a drawing as .svg or .html, with model text escaped. Raises ConfigError for another ending."""
    ending = Path(out).suffix.lower()
    if ending not in (".svg", ".html"):
        raise ConfigError(f"--to {out!r}: expected a file that ends in .svg or .html")
    recorder = Console(
        record=True, width=WIDTH, file=io.StringIO(), color_system="truecolor", force_terminal=True
    )
    recorder.print(drawing)
    text = recorder.export_svg(title=printable(title)) if ending == ".svg" else recorder.export_html()
    files.write_bytes(out, text.encode())


def draw(tree: dict[str, Any], full: bool = False) -> Drawing:
    """Return the tree as rich draws it. Unless `full`, children that were never expanded are only counted."""
    nodes = tree["nodes"]
    children: dict[int, list[dict[str, Any]]] = {}
    for node in nodes[1:]:
        children.setdefault(node["parent"], []).append(node)
    uses, wrong = _uses(tree["records"])
    drawing = Drawing(_label(nodes[0], uses, wrong))
    stack = [(drawing, nodes[0])]
    while stack:
        branch, node = stack.pop()
        hidden = 0
        for child in children.get(node["id"], []):
            if full or child["visits"] or child["id"] in children or child["id"] in uses:
                stack.append((branch.add(_label(child, uses, wrong)), child))
            else:
                hidden += 1
        if hidden:
            branch.add(Text(f"{hidden} more, not expanded", style="dim"))
    return drawing


def _label(node: dict[str, Any], uses: dict[int, list[str]], wrong: set[int]) -> Text:
    action = one_line(node["action"], ACTION) or "(no action)" if node["parent"] is not None else "start"
    text = Text(action, style="bold red" if node["id"] in wrong else "bold")
    mean = f"{node['value'] / node['visits']:.2f}" if node["visits"] else "-"
    text.append(f"  visits {node['visits']}, value {mean}", style="cyan")
    if node["end"]:
        style = "green" if node["reward"] >= 1 else "yellow"
        text.append(f"  {node['end']}, reward {node['reward']:g}", style=style)
    if node["id"] in wrong:
        text.append("  <- judged bad", style="red")
    for use in uses.get(node["id"], []):
        text.append(f"  [{use}]", style="magenta")
    text.append(f"  {one_line(node['observation'], OBSERVATION)}", style="dim")
    return text


def _uses(records: Iterable[dict[str, Any]]) -> tuple[dict[int, list[str]], set[int]]:
    """Return for each leaf what it was used for, and the nodes that the judge considered bad."""
    used: dict[int, dict[str, int]] = {}
    wrong: set[int] = set()
    for record in records:
        for name, leaf in zip(("good", "bad"), record["leaves"], strict=False):
            kind = f"{name} of pairs" if record["kind"] == "revision" else "trained on whole"
            counts = used.setdefault(leaf, {})
            counts[kind] = counts.get(kind, 0) + 1
        wrong |= {j["node"] for j in record["judge"] or () if j["judgement"] == "bad"}
    return {leaf: [f"{kind}: {n}" for kind, n in counts.items()] for leaf, counts in used.items()}, wrong


def _record_line(record: dict[str, Any]) -> str:
    fate = record["fate"] or "verified or under way"
    good, *bad = record["leaves"]
    if record["kind"] != "revision":
        return f"{record['id']}  {record['kind']}: leaf {good}; {fate}"
    turn = f"turns around after step {record['t_prime']}" if record["t_prime"] else "has no turning point"
    return (
        f"{record['id']}  revision: bad leaf {bad[0]} {turn} (common prefix: {record['prefix']}) "
        f"and continues as leaf {good}; {fate}"
    )


def _rows(folder: str) -> Iterator[Row]:
    for path in overview.row_parts(folder):
        yield from parts.read_rows(path)


def _fates(run: RunDir, round_: RoundKey) -> dict[str, str]:
    """Return record id -> why filter or verify dropped it, under the id it had in critique."""
    dropped = {
        stage: {
            r["id"]: f"dropped by {stage}: {r['reason']}"
            for r in run.rejects(run.stage(round_, stage), "dropped")
        }
        for stage in ("filter", "verify")
    }
    filtered = {r.id: r.parents for r in _rows(run.stage(round_, "filter"))}
    verified = dropped["verify"]
    return dropped["filter"] | {p: verified[i] for i, ps in filtered.items() if i in verified for p in ps}
