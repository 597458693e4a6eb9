"""How inspect shows the facts of a run (pipeline.overview) to a person."""

from typing import Any

from rich.table import Table

from jobs.showing import show, show_field
from pipeline.console import console
from pipeline.display import rewards, seen_as
from pipeline.overview import DONE, NOT_BEGUN, TRAININGS, UNDER_WAY
from pipeline.printable import one_line, printable

# What a payload holds of its task beyond question and answer, and what is shown in the heading: not repeated below it.
_PLUMBING = {
    "task_id",
    "answer_type",
    "entry",
    "source",
    "sample",
    "model",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "where",
    "sampling",
    "tree",
}


def show_overview(facts: dict[str, Any]) -> None:
    """Print the run's heading, and a table of stages for the rounds that have begun."""
    show(
        f"{facts['name']}: method {facts['method']}, model {facts['model']}, engine {facts['engine']}",
        style="bold",
    )
    show(f"run: {facts['run']}")
    tasks = facts["tasks"]
    known = tasks["train"] is not None
    show(
        f"tasks: {tasks['train']} to train on, {tasks['held_out']} held out, {tasks['demonstrations'] or 0} demonstrations"
        + "".join(
            f", {n or 0} of {name.removeprefix('sets/')} to evaluate with"
            for name, n in tasks.items()
            if name.startswith("sets/")
        )
        if known
        else "tasks: not read yet"
    )
    begun = [r for r in facts["rounds"] if _begun(r)]
    if begun:
        table = Table(show_edge=False, pad_edge=False)
        for name in (
            "round",
            "stage",
            "state",
            "in",
            "done",
            "dropped",
            "failed",
            "out",
            "tokens",
            "seconds",
        ):
            table.add_column(
                name, justify="left" if name in ("round", "stage", "state") else "right", no_wrap=True
            )
        for r in begun:
            for name, stage in r["stages"].items():
                if name == "evaluate":
                    for training in (t for t in TRAININGS if r.get(t)):
                        table.add_row(str(r["round"]), *_train_cells(training, r[training]))
                table.add_row(str(r["round"]), *_stage_cells(name, stage))
        show()
        console.print(table, soft_wrap=False)
        for r in begun:
            for line in _notes(r):
                show(line)
    rest = [str(r["round"]) for r in facts["rounds"] if not _begun(r)]
    if rest:
        show(f"not begun: {'round' if len(rest) == 1 else 'rounds'} {', '.join(rest)}")


def show_stage(facts: dict[str, Any]) -> None:
    """Print one stage's counts and the reasons for what it dropped."""
    title = facts["stage"] if facts["round"] is None else f"round {facts['round']} {facts['stage']}"
    show(f"{title}: {facts['state']}", style="bold")
    if facts["state"] == NOT_BEGUN:
        return
    if facts["passes_through"]:
        show(
            f"nothing to do here for this method: the {facts['out']} rows of {facts['passes_through']} pass through",
            2,
        )
        return
    dropped, failed = sum(facts["dropped"].values()), sum(facts["failed"].values())
    of = f" of {facts['expected']}" if facts["state"] == UNDER_WAY and facts["expected"] is not None else ""
    show(
        f"{facts['in']}{of} in = {facts['done']} done + {dropped} dropped + {failed} failed; {facts['out']} rows out",
        2,
    )
    for step in facts["steps"]:
        show(
            f"step {step['name']}: {step['rows_in']} in = {step['rows_out']} out + {sum(step['dropped'].values())} dropped",
            2,
        )
    if facts["completion_tokens"]:
        cost = f"{facts['prompt_tokens']:,} prompt + {facts['completion_tokens']:,} completion tokens, {facts['requests_sent']} requests"
        show(
            cost + (f" and {facts['requests_from_log']} from the log" if facts["requests_from_log"] else ""),
            2,
        )
    if cache := (facts.get("facts") or {}).get("prefix_cache"):
        show(
            f"prefix cache: {cache['found']:,} of {cache['looked_up']:,} prompt tokens ({cache['found'] / cache['looked_up']:.0%})",
            2,
        )
    if facts["model"]:
        show(f"model {facts['model']}", 2)
    if facts["seconds"] is not None:
        show(f"{facts['seconds']:.1f} s", 2)
    if note := (facts.get("facts") or {}).get("note"):
        show(note, 2)
    for name, count in facts.get("sets", {}).items():
        show(f"{name}: {count}", 2)
    for dataset in facts.get("datasets", []):
        show(f"published: {dataset['path']} ({dataset['rows']} {dataset['unit']})", 2)
    if facts.get("evaluation"):
        found, which = (
            facts["evaluation"],
            "held-out questions" if facts["stage"] == "evaluate" else "questions",
        )
        show(f"greedy {facts['measured']}: {found['greedy']['mean']:.1%} on {found['n']} {which}", 2)
    for kind, reasons in (("dropped", facts["dropped_in_all"]), ("failed", facts["failed"])):
        for reason, count in sorted(reasons.items(), key=lambda kv: (-kv[1], kv[0])):
            show(f"{kind} {reason}: {count}", 2)


def show_rejects(kind: str, by_reason: dict[str, list[dict[str, Any]]], full: bool) -> None:
    """Print examples of dropped or failed rows."""
    for reason, found in by_reason.items():
        show()
        show(f"{kind} as {reason}, for example:", style="bold")
        for reject in found:
            detail = reject["detail"] if full else one_line(reject["detail"], 300)
            show(f"{reject['id']}  {detail}", 2)
            payload = {k: v for k, v in reject["payload"].items() if k != "text" or not reject["raw"]}
            show_payload(payload, 4, full)
            if reject["raw"]:
                show_field("text", reject["raw"], 4, full=full, style="cyan")


def show_rows(rows: list[dict[str, Any]], full: bool) -> None:
    """Print example rows."""
    if rows:
        show()
        show("rows, for example:", style="bold")
    for row in rows:
        payload = row["payload"]
        told = [
            f"{k} {payload[k]}" for k in ("sample", "model", "finish_reason") if payload.get(k) is not None
        ]
        show(f"{row['id']}  {', '.join([row['set']] if 'set' in row else told)}", 2)
        show_payload(payload, 4, full)


def show_payload(payload: dict[str, Any], indent: int, full: bool = False) -> None:
    """Print what a payload says: question and expected answer, the model's text, the verdict, whatever else it holds."""
    for name, value in payload.items():
        if name in _PLUMBING or value in (None, "", [], {}):
            continue
        if name == "verdict" and isinstance(value, dict):
            judged = (
                "right"
                if value.get("correct")
                else f"wrong{': ' + str(value['problem']) if value.get('problem') else ''}"
            )
            score = f", score {value['score']:g}" if isinstance(value.get("score"), int | float) else ""
            show_field(
                name,
                f"{judged}, extracted {value.get('extracted')!r}{score}",
                indent,
                full=full,
                style="green" if value.get("correct") else "red",
            )
        elif isinstance(value, dict | list):
            show_field(name, "", indent)
            for i, item in enumerate(value if isinstance(value, list) else [value]):
                _show_item(item, indent + 2, full, f"{i + 1}." if isinstance(value, list) else "")
        else:
            show_field(
                name,
                str(value),
                indent,
                max(10, len(name) + 2),
                full=full,
                style="cyan" if name == "text" else "",
            )


def show_train(facts: dict[str, Any]) -> None:
    """Print what came of a training, or how far it is."""
    show(f"round {facts['round']} {facts['stage']}: {facts['state']}", style="bold")
    if line := facts["progress"]:
        show(
            f"step {line['step']} of {line['total']}, loss {line['loss']:.3f}{rewards(line)}, {line['tokens_per_second']:.0f} tokens/s",
            2,
        )
    if result := facts["result"]:
        for name in (
            "model",
            "revision",
            "base",
            "steps",
            "examples",
            "left_out",
            "tokens",
            "seconds",
            "tokens_per_second",
            "final_loss",
            "rewards",
            "shares",
        ):
            if name != "rewards" or result.get(name):
                show_field(name, str(result.get(name)), 2, 20)
        for name, value in (result.get("hyperparameters") or {}).items():
            show_field(name, str(value), 4, 34)


def _show_item(item: Any, indent: int, full: bool, mark: str) -> None:
    if isinstance(item, dict) and set(item) == {"role", "content"}:
        show_field(f"{item['role']}:", str(item["content"]), indent, 12, full=full)
    elif isinstance(item, dict):
        facts = ", ".join(
            f"{k} {v!r}"
            for k, v in item.items()
            if k not in ("text", "messages") and not isinstance(v, dict | list)
        )
        show(f"{mark} {facts if full else one_line(facts, 300)}".strip(), indent)
        for name in [k for k, v in item.items() if k in ("text", "messages") or isinstance(v, dict | list)]:
            show_payload({name: item[name]}, indent + 2, full)
    else:
        show_field(mark, str(item), indent, len(mark) + 1, full=full)


def _begun(r: dict[str, Any]) -> bool:
    return any(
        s["state"] != NOT_BEGUN for s in (*r["stages"].values(), *(r[t] for t in TRAININGS if r.get(t)))
    )


def _stage_cells(name: str, s: dict[str, Any]) -> list[str]:
    if s["state"] == NOT_BEGUN:
        return [name, NOT_BEGUN]
    if s["passes_through"]:
        return [name, "passes on", str(s["in"]), "", "", "", str(s["out"]), "", ""]
    of = f" of {s['expected']}" if s["state"] == UNDER_WAY and s["expected"] is not None else ""
    dropped = sum(s["dropped"].values()) + sum(sum(step["dropped"].values()) for step in s["steps"])
    tokens = f"{s['completion_tokens']:,}" if s["completion_tokens"] else ""
    seconds = "" if s["seconds"] is None else f"{s['seconds']:.1f}"
    return [
        name,
        s["state"],
        f"{s['in']}{of}",
        str(s["done"]),
        str(dropped),
        str(sum(s["failed"].values())),
        str(s["out"]),
        tokens,
        seconds,
    ]


def _train_cells(name: str, train: dict[str, Any]) -> list[Any]:
    if train["state"] == NOT_BEGUN:
        return [name, NOT_BEGUN]
    result, line = train["result"], train["progress"]
    if result:
        return [
            name,
            DONE,
            str(result["examples"]),
            "",
            "",
            "",
            "",
            f"{result['tokens']:,}",
            f"{result['seconds']:.1f}",
        ]
    return [name, f"step {line['step']}/{line['total']}" if line else UNDER_WAY]


def _notes(r: dict[str, Any]) -> list[str]:
    notes = [
        f"round {r['round']} published {d['rows']} {d['unit']} ({d['kind']}): {d['path']}"
        for d in r["datasets"]
    ]
    notes += [
        f"round {r['round']}, {name}: {note}"
        for name, s in r["stages"].items()
        if (note := (s.get("facts") or {}).get("note"))
    ]
    for result in (r[t]["result"] for t in TRAININGS if r.get(t) and r[t]["result"]):
        loss = f", final loss {result['final_loss']:.3f}" if result["final_loss"] is not None else ""
        unit = seen_as(result.get("kind", "sft"))
        notes.append(
            f"round {r['round']} trained on {result['examples']} {unit} ({result['shares'].get('real', 0)} real + "
            f"{result['shares'].get('synthetic', 0)} synthetic), {result['steps']} steps{loss}{rewards(result.get('rewards'))}: {result['model']}"
        )
    return [printable(n) for n in notes]
