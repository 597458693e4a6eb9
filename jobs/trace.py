"""Where a row comes from and what became of it: python -m jobs.trace --run DIR ROW_ID"""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from jobs.common import RunOption, main
from jobs.inspect import JsonOption, RoundChoice, parse_round
from jobs.rendering import show_payload
from jobs.showing import print_json, show, show_field
from pipeline.lineage import Fate, Link
from pipeline.lineage import trace as find
from pipeline.printable import one_line
from pipeline.rundir import RoundKey, RunDir

_DEFAULTS = {
    "temperature": None,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "max_tokens": None,
}
_STEP = 4


def trace(
    row: Annotated[
        str,
        typer.Argument(
            metavar="ROW_ID", help="id of a row or of a published example, or its first 6 or more characters"
        ),
    ],
    run: RunOption,
    round: RoundChoice = None,
    full: Annotated[bool, typer.Option("--full", help="show long texts whole")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a row's way from its seed task through every request to the published example. Reads only."""
    directory = RunDir(run)
    links = find(directory, row, parse_round(round))
    if as_json:
        print_json({"run": directory.root, "asked": row, "links": [asdict(link) for link in links]})
        return
    rounds = sorted({str(link.round) for link in links if link.asked})
    if len(rounds) > 1:
        show(f"A row of this id was made in rounds {', '.join(rounds)}; --round shows one of them.")
    for link, depth in _tree(links):
        _show_link(link, depth * _STEP, links, full)


def _tree(links: list[Link]) -> list[tuple[Link, int]]:
    """Return the links in the order of a tree, each with its depth: below the first of its parents that is there."""
    by_key = {(link.id, link.round): link for link in links}
    below: dict[tuple[str, RoundKey | None] | None, list[Link]] = {}
    tasks = [link for link in links if link.round is None]
    for link in links:
        keys = [
            k
            for p in link.parents
            for k in ((p, link.round), (p, None))
            if k in by_key and by_key[k] is not link
        ]
        # A row whose parents are not stored hangs from its task.
        other = [
            (t.id, None) for t in tasks if link.round is not None and t.id == link.payload.get("task_id")
        ]
        earlier = [(x.id, x.round) for p in link.parents for x in links if x.id == p and x is not link]
        below.setdefault(next(iter([*keys, *earlier, *other]), None), []).append(link)
    ordered: list[tuple[Link, int]] = []
    stack = [(link, 0) for link in reversed(below.get(None, []))]
    while stack:
        link, depth = stack.pop()
        ordered.append((link, depth))
        stack += [(child, depth + 1) for child in reversed(below.pop((link.id, link.round), []))]
    return ordered


def _show_link(link: Link, indent: int, links: list[Link], full: bool) -> None:
    made = (
        f"read with the tasks ({link.stage.removeprefix('tasks/')})"
        if link.round is None
        else f"made by {link.stage} in round {link.round}"
    )
    show(f"{link.id}  {made}{'   <- asked for' if link.asked else ''}", indent, "bold")
    show_payload(_news(link, links), indent + 2, full)
    for fate in link.fates:
        _show_fate(fate, link, links, indent + 2, full)
    for example in link.published:
        pair = f"{example.tokens_chosen} chosen, {example.tokens_rejected} rejected"
        tokens = f"{example.tokens_prompt} + {pair if example.chosen else example.tokens_completion} tokens"
        if example.text:
            tokens = f"{example.tokens_text} tokens"
        if example.turns:
            tokens = f"{example.tokens_context} tokens without loss, {example.tokens_loss} with"
        show(f"published as {example.row_id} in {example.folder}: {tokens}", indent + 2, "green")
        for message in [*example.prompt, *example.completion]:
            show_field(f"{message['role']}:", message["content"], indent + 4, 12, full=full)
        if example.text:
            show_field("text:", example.text, indent + 4, 12, full=full)
        for turn in example.turns:
            show_field(
                f"{turn['role']}:",
                turn["content"],
                indent + 4,
                12,
                full=full,
                style="green" if turn["loss"] else "",
            )
        for name, style in (("chosen", "green"), ("rejected", "red")):
            for message in getattr(example, name):
                show_field(f"{name}:", message["content"], indent + 4, 12, full=full, style=style)


def _news(link: Link, links: list[Link]) -> dict[str, Any]:
    """Return what the row's payload says that its parents' payloads did not say already."""
    said = [
        other.payload
        for other in links
        if other is not link and (other.id in link.parents or other.id == link.payload.get("task_id"))
    ]
    return {
        k: v for k, v in link.payload.items() if not any(k in payload and payload[k] == v for payload in said)
    }


def _show_fate(fate: Fate, link: Link, links: list[Link], indent: int, full: bool) -> None:
    requests = fate.requests if full else _told(fate.requests, links)
    for request in requests:
        _show_request(fate, request, indent, full)
    if hidden := len(fate.requests) - len(requests):
        show(
            f"{fate.stage}, round {fate.round}: {hidden} other {'request' if hidden == 1 else 'requests'} of this row (--full shows all)",
            indent,
            "yellow",
        )
    where = f"{fate.stage}, round {fate.round}" + (f", step {fate.step}" if fate.step else "")
    if fate.outcome in ("dropped", "failed"):
        detail = fate.detail if full else one_line(fate.detail, 400)
        show(f"{where}: {fate.outcome} as {fate.reason}{': ' + detail if detail else ''}", indent, "red")
        if fate.raw and fate.raw != link.payload.get("text"):
            show_field("raw reply", fate.raw, indent + 2, full=full)
        return
    here = {other.id for other in links}
    more = sum(child not in here for child in fate.children)
    rows = f", {len(fate.children)} {'row' if len(fate.children) == 1 else 'rows'}" if fate.children else ""
    show(
        f"{where}: {fate.outcome}{rows}{f' ({more} of them not shown here)' if more else ''}",
        indent,
        "green" if fate.outcome == "kept" else "yellow",
    )


def _told(requests: list[dict[str, Any]], links: list[Link]) -> list[dict[str, Any]]:
    """Return the requests whose replies stand in the rows that are shown, or all when no reply does (a method may take them apart)."""
    texts = {v.strip() for link in links for v in link.payload.values() if isinstance(v, str)}
    return [
        r for r in requests if any(c.get("text", "").strip() in texts for c in r.get("completions") or [])
    ] or requests


def _show_request(fate: Fate, record: dict[str, Any], indent: int, full: bool) -> None:
    completions = record.get("completions") or []
    tokens = sum(c.get("completion_tokens", 0) for c in completions)
    prompt_tokens = completions[0].get("prompt_tokens", 0) if completions else 0
    again = f", call {record['sample_index'] + 1} of this prompt" if record.get("sample_index") else ""
    show(
        f"{fate.stage}, round {fate.round}: asked {record.get('model')} {record.get('step', '')}{again}",
        indent,
        "yellow",
    )
    show(
        f"{_sampling(record)}; {prompt_tokens} prompt + {tokens} completion tokens, {record.get('seconds', 0):g} s",
        indent + 2,
    )
    for message in record.get("messages") or []:
        show_field(f"{message['role']}:", str(message["content"]), indent + 2, 12, full=full)
    if record.get("prompt"):
        show_field("prompt:", record["prompt"], indent + 2, 12, full=full)
    if record.get("prefill"):
        show_field("prefill:", record["prefill"], indent + 2, 12, full=full)
    for i, completion in enumerate(completions):
        ended = "" if completion.get("finish_reason") == "stop" else f" [{completion.get('finish_reason')}]"
        show_field(
            f"reply {i + 1}:", completion.get("text", "") + ended, indent + 2, 12, full=full, style="cyan"
        )


def _sampling(record: dict[str, Any]) -> str:
    """Return the sampling parameters that say something: those that are not switched off."""
    given = record.get("sampling") or {}
    told = [f"{k} {v}" for k, v in given.items() if v not in (None, [], {}, ()) and v != _DEFAULTS.get(k)]
    return ", ".join([f"n {record.get('n', 1)}", *told])


if __name__ == "__main__":
    main(trace)
