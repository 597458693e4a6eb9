"""Where a row comes from and what became of it: python -m jobs.trace --run DIR ROW_ID"""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from jobs.common import JsonOption, RunOption, check_run, main
from jobs.inspect import RoundChoice, parse_round
from jobs.rendering import show_payload
from jobs.showing import print_json, show, show_field
from pipeline.lineage import Fate, Link
from pipeline.lineage import trace as find
from pipeline.printable import one_line
from pipeline.rundir import RoundKey, RunDir

# Sampling parameters that are switched off.
_OFF = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
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
    full: Annotated[bool, typer.Option("--full", help="show long texts in full")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a row's way from its seed task through every request to the published example. Read-only."""
    check_run(run)
    directory = RunDir(run)
    links = find(directory, row, parse_round(round))
    if as_json:
        print_json({"run": directory.root, "asked": row, "links": [asdict(link) for link in links]})
        return
    rounds = sorted({str(link.round) for link in links if link.asked})
    if len(rounds) > 1:
        show(f"Rounds {', '.join(rounds)} each have a row with this id; --round selects one.")
    for link, depth in _tree(links):
        _show_link(link, depth * _STEP, links, full)


def _tree(links: list[Link]) -> list[tuple[Link, int]]:
    """Return the links depth first, each with its depth under the first of its parents that is among them."""
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
        earlier = [(x.id, x.round) for p in link.parents for x in links if x.id == p and x is not link]
        # A row whose parents are not stored goes under its task.
        task = [(t.id, None) for t in tasks if link.round is not None and t.id == link.payload.get("task_id")]
        below.setdefault(next(iter([*keys, *earlier, *task]), None), []).append(link)
    ordered: list[tuple[Link, int]] = []
    stack = [(link, 0) for link in reversed(below.get(None, []))]
    while stack:
        link, depth = stack.pop()
        ordered.append((link, depth))
        stack += [(child, depth + 1) for child in reversed(below.pop((link.id, link.round), []))]
    return ordered


def _show_link(link: Link, indent: int, links: list[Link], full: bool) -> None:
    if link.round is None:
        made = f"read with the tasks ({link.stage.removeprefix('tasks/')})"
    else:
        made = f"made by {link.stage} in round {link.round}"
    show(f"{link.id}  {made}{'   <- asked for' if link.asked else ''}", indent, "bold")
    show_payload(_news(link, links), indent + 2, full)
    for fate in link.fates:
        _show_fate(fate, link, links, indent + 2, full)
    for example in link.published:
        if example.text:
            tokens = f"{example.tokens_text} tokens"
        elif example.turns:
            tokens = f"{example.tokens_context} tokens without loss, {example.tokens_loss} with"
        elif example.chosen:
            pair = f"{example.tokens_chosen} chosen, {example.tokens_rejected} rejected"
            tokens = f"{example.tokens_prompt} + {pair} tokens"
        else:
            tokens = f"{example.tokens_prompt} + {example.tokens_completion} tokens"
        if example.label is not None:
            tokens += f", labeled {'right' if example.label else 'wrong'}"
        show(f"published as {example.row_id} in {example.folder}: {tokens}", indent + 2, "green")
        texts = [(m["role"], m["content"], "") for m in [*example.prompt, *example.completion]]
        texts += [("text", example.text, "")] if example.text else []
        texts += [(t["role"], t["content"], "green" if t["loss"] else "") for t in example.turns]
        texts += [("chosen", m["content"], "green") for m in example.chosen]
        texts += [("rejected", m["content"], "red") for m in example.rejected]
        for name, text, style in texts:
            show_field(f"{name}:", text, indent + 4, 12, full=full, style=style)


def _news(link: Link, links: list[Link]) -> dict[str, Any]:
    """Return the part of a row's payload that its parents' payloads lack."""
    sources = {*link.parents, link.payload.get("task_id")}
    known = [other.payload for other in links if other is not link and other.id in sources]
    return {k: v for k, v in link.payload.items() if not any(k in p and p[k] == v for p in known)}


def _show_fate(fate: Fate, link: Link, links: list[Link], indent: int, full: bool) -> None:
    requests = fate.requests if full else _relevant(fate.requests, links)
    for request in requests:
        _show_request(fate, request, indent, full)
    where = f"{fate.stage}, round {fate.round}"
    if hidden := len(fate.requests) - len(requests):
        other = f"{hidden} other {'request' if hidden == 1 else 'requests'}"
        show(f"{where}: {other} of this row (--full shows all)", indent, "yellow")
    where += f", step {fate.step}" if fate.step else ""
    if fate.outcome in ("dropped", "failed"):
        detail = fate.detail if full else one_line(fate.detail, 400)
        show(f"{where}: {fate.outcome} as {fate.reason}{f': {detail}' if detail else ''}", indent, "red")
        if fate.raw and fate.raw != link.payload.get("text"):
            show_field("raw reply", fate.raw, indent + 2, full=full)
        return
    shown = {other.id for other in links}
    more = sum(child not in shown for child in fate.children)
    rows = f", {len(fate.children)} {'row' if len(fate.children) == 1 else 'rows'}" if fate.children else ""
    rows += f" ({more} of them not shown here)" if more else ""
    show(f"{where}: {fate.outcome}{rows}", indent, "green" if fate.outcome == "kept" else "yellow")


def _relevant(requests: list[dict[str, Any]], links: list[Link]) -> list[dict[str, Any]]:
    """Return the requests whose replies are in the rows shown, or all if none is (methods split replies)."""
    texts = {v.strip() for link in links for v in link.payload.values() if isinstance(v, str)}
    return [
        r for r in requests if any(c.get("text", "").strip() in texts for c in r.get("completions") or [])
    ] or requests


def _show_request(fate: Fate, record: dict[str, Any], indent: int, full: bool) -> None:
    completions = record.get("completions") or []
    tokens = sum(c.get("completion_tokens", 0) for c in completions)
    prompt_tokens = completions[0].get("prompt_tokens", 0) if completions else 0
    repeat = f", call {record['sample_index'] + 1} of this prompt" if record.get("sample_index") else ""
    title = f"{fate.stage}, round {fate.round}: asked {record.get('model')} {record.get('step', '')}{repeat}"
    show(title, indent, "yellow")
    sampling = {k: v for k, v in (record.get("sampling") or {}).items() if v not in (None, [], {}, ())}
    given = [f"n {record.get('n', 1)}", *(f"{k} {v}" for k, v in sampling.items() if v != _OFF.get(k))]
    show(
        f"{', '.join(given)}; {prompt_tokens} prompt + {tokens} completion tokens, "
        f"{record.get('seconds', 0):g} s",
        indent + 2,
    )
    for message in record.get("messages") or []:
        show_field(f"{message['role']}:", str(message["content"]), indent + 2, 12, full=full)
    for name in ("prompt", "prefill"):
        if record.get(name):
            show_field(f"{name}:", record[name], indent + 2, 12, full=full)
    for i, completion in enumerate(completions, 1):
        reason = completion.get("finish_reason")
        text = completion.get("text", "") + ("" if reason == "stop" else f" [{reason}]")
        show_field(f"reply {i}:", text, indent + 2, 12, full=full, style="cyan")


if __name__ == "__main__":
    main(trace)
