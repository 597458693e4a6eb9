"""How inspect shows what pipeline.overview reports of a run."""

from typing import Any

from rich.table import Table

from jobs.showing import show, show_field
from pipeline.console import console
from pipeline.display import rewards, seen_as
from pipeline.overview import DONE, NOT_BEGUN, TRAININGS, UNDER_WAY
from pipeline.printable import one_line, printable
from stages.reports.table import readable

COLUMNS = ("round", "stage", "state", "in", "done", "dropped", "failed", "out", "tokens", "seconds")
# Payload keys that are not shown below a row: of no interest to people, or in its heading already.
_HIDDEN = {"task_id", "answer_type", "entry", "source", "where", "prompt_tokens", "completion_tokens"}
_HIDDEN |= {"sample", "model", "finish_reason", "sampling", "tree"}
_TRAIN_FIELDS = ["model", "revision", "base", "steps", "examples", "left_out", "tokens", "seconds"]
_TRAIN_FIELDS += ["tokens_per_second", "final_loss", "rewards", "shares"]


def show_overview(facts: dict[str, Any]) -> None:
    """Print the run's heading, and a table of stages for the rounds that have begun."""
    heading = f"{facts['name']}: method {facts['method']}, model {facts['model']}, engine {facts['engine']}"
    show(heading, style="bold")
    show(f"run: {facts['run']}")
    tasks = facts["tasks"]
    if tasks["train"] is None:
        show("tasks: not read yet")
    else:
        sets = ((name.removeprefix("sets/"), n or 0) for name, n in tasks.items() if name.startswith("sets/"))
        show(
            f"tasks: {tasks['train']} to train on, {tasks['held_out']} held out, "
            f"{tasks['demonstrations'] or 0} demonstrations"
            + "".join(f", {n} of {name} to evaluate with" for name, n in sets)
        )
    begun = [r for r in facts["rounds"] if _begun(r)]
    if begun:
        show()
        console.print(_stage_table(begun), soft_wrap=False)
        for line in (line for r in begun for line in _notes(r)):
            show(line)
    if rest := [str(r["round"]) for r in facts["rounds"] if not _begun(r)]:
        show(f"not begun: {'round' if len(rest) == 1 else 'rounds'} {', '.join(rest)}")


def show_stage(facts: dict[str, Any]) -> None:
    """Print one stage's counts and the reasons for what it dropped."""
    title = facts["stage"] if facts["round"] is None else f"round {facts['round']} {facts['stage']}"
    show(f"{title}: {facts['state']}", style="bold")
    if facts["state"] == NOT_BEGUN:
        return
    if facts["passes_through"]:
        show(f"this method skips it: the {facts['out']} rows of {facts['passes_through']} pass through", 2)
        return
    extra = facts.get("facts") or {}
    for line in (*_counts(facts), *([extra["note"]] if extra.get("note") else [])):
        show(line, 2)
    for name, count in facts.get("sets", {}).items():
        show(f"{name}: {count}", 2)
    for dataset in facts.get("datasets", []):
        show(f"published: {dataset['path']} ({dataset['rows']} {dataset['unit']})", 2)
    if accuracy := facts.get("evaluation"):
        questions = "held-out questions" if facts["stage"] == "evaluate" else "questions"
        mean = accuracy["greedy"]["mean"]
        read = f", {readable(accuracy)} of the answers readable" if facts["measured"] == "accuracy" else ""
        show(f"greedy {facts['measured']}: {mean:.1%} on {accuracy['n']} {questions}{read}", 2)
    for kind, reasons in (("dropped", facts["dropped_in_all"]), ("failed", facts["failed"])):
        for reason, count in sorted(reasons.items(), key=lambda kv: (-kv[1], kv[0])):
            show(f"{kind} {reason}: {count}", 2)


def _counts(facts: dict[str, Any]) -> list[str]:
    dropped, failed = sum(facts["dropped"].values()), sum(facts["failed"].values())
    lines = [
        f"{facts['in']}{_of_expected(facts)} in = {facts['done']} done + {dropped} dropped + "
        f"{failed} failed; {facts['out']} rows out"
    ]
    for step in facts["steps"]:
        dropped = sum(step["dropped"].values())
        lines.append(
            f"step {step['name']}: {step['rows_in']} in = {step['rows_out']} out + {dropped} dropped"
        )
    if facts["completion_tokens"]:
        replayed = facts["requests_from_log"]
        lines.append(
            f"{facts['prompt_tokens']:,} prompt + {facts['completion_tokens']:,} completion tokens, "
            f"{facts['requests_sent']} requests{f' and {replayed} from the log' if replayed else ''}"
        )
    if cache := (facts.get("facts") or {}).get("prefix_cache"):
        found, all_ = cache["found"], cache["looked_up"]
        lines.append(f"prefix cache: {found:,} of {all_:,} prompt tokens ({found / all_:.0%})")
    if facts["model"]:
        lines.append(f"model {facts['model']}")
    if facts["seconds"] is not None:
        lines.append(f"{facts['seconds']:.1f} s")
    return lines


def show_rejects(kind: str, by_reason: dict[str, list[dict[str, Any]]], full: bool) -> None:
    """Print examples of dropped or failed rows."""
    for reason, rejects in by_reason.items():
        show()
        show(f"{kind} as {reason}, for example:", style="bold")
        for reject in rejects:
            show(f"{reject['id']}  {reject['detail'] if full else one_line(reject['detail'], 300)}", 2)
            show_payload(
                {k: v for k, v in reject["payload"].items() if k != "text" or not reject["raw"]}, 4, full
            )
            if reject["raw"]:
                show_field("text", reject["raw"], 4, full=full, style="cyan")


def show_rows(rows: list[dict[str, Any]], full: bool) -> None:
    """Print example rows."""
    if rows:
        show()
        show("rows, for example:", style="bold")
    for row in rows:
        payload = row["payload"]
        keys = (k for k in ("sample", "model", "finish_reason") if payload.get(k) is not None)
        show(
            f"{row['id']}  {row['set'] if 'set' in row else ', '.join(f'{k} {payload[k]}' for k in keys)}", 2
        )
        show_payload(payload, 4, full)


def show_payload(payload: dict[str, Any], indent: int, full: bool = False) -> None:
    """Print a payload: question, expected answer, the model's text, the verdict, whatever else there is."""
    for name, value in payload.items():
        if name in _HIDDEN or value in (None, "", [], {}):
            continue
        if name == "verdict" and isinstance(value, dict):
            style = "green" if value.get("correct") else "red"
            show_field(name, _verdict(value), indent, full=full, style=style)
        elif isinstance(value, dict | list):
            show_field(name, "", indent)
            for i, item in enumerate(value if isinstance(value, list) else [value], 1):
                _show_item(item, indent + 2, full, f"{i}." if isinstance(value, list) else "")
        else:
            style = "cyan" if name == "text" else ""
            show_field(name, str(value), indent, max(10, len(name) + 2), full=full, style=style)


def _verdict(verdict: dict[str, Any]) -> str:
    problem, score = verdict.get("problem"), verdict.get("score")
    text = "right" if verdict.get("correct") else f"wrong{f': {problem}' if problem else ''}"
    scored = isinstance(score, int | float)
    read = "" if scored and verdict.get("extracted") is None else f", extracted {verdict.get('extracted')!r}"
    return f"{text}{read}" + (f", score {score:.3g}" if scored else "")


def show_train(facts: dict[str, Any]) -> None:
    """Print the result of a training, or its progress."""
    show(f"round {facts['round']} {facts['stage']}: {facts['state']}", style="bold")
    if line := facts["progress"]:
        show(
            f"step {line['step']} of {line['total']}, loss {line['loss']:.3f}{rewards(line)}, "
            f"{line['tokens_per_second']:.0f} tokens/s",
            2,
        )
    if result := facts["result"]:
        for name in _TRAIN_FIELDS:
            if name != "rewards" or result.get(name):
                show_field(name, str(result.get(name)), 2, 20)
        for name, value in (result.get("hyperparameters") or {}).items():
            show_field(name, str(value), 4, 34)


def _show_item(item: Any, indent: int, full: bool, mark: str) -> None:
    if not isinstance(item, dict):
        show_field(mark, str(item), indent, len(mark) + 1, full=full)
    elif set(item) == {"role", "content"}:
        show_field(f"{item['role']}:", str(item["content"]), indent, 12, full=full)
    else:
        below = {k: v for k, v in item.items() if k in ("text", "messages") or isinstance(v, dict | list)}
        line = ", ".join(f"{k} {v!r}" for k, v in item.items() if k not in below)
        show(f"{mark} {line if full else one_line(line, 300)}".strip(), indent)
        show_payload(below, indent + 2, full)


def _begun(r: dict[str, Any]) -> bool:
    stages = (*r["stages"].values(), *(r[t] for t in TRAININGS if r.get(t)))
    return any(s["state"] != NOT_BEGUN for s in stages)


def _stage_table(rounds: list[dict[str, Any]]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in COLUMNS[:3] else "right", no_wrap=True)
    for r in rounds:
        for name, stage in r["stages"].items():
            if name == "evaluate":
                for training in (t for t in TRAININGS if r.get(t)):
                    table.add_row(str(r["round"]), training, *_train_cells(r[training]))
            table.add_row(str(r["round"]), name, *_stage_cells(stage))
    return table


def _of_expected(s: dict[str, Any]) -> str:
    return f" of {s['expected']}" if s["state"] == UNDER_WAY and s["expected"] is not None else ""


def _stage_cells(s: dict[str, Any]) -> list[str]:
    if s["state"] == NOT_BEGUN:
        return [NOT_BEGUN]
    if s["passes_through"]:
        return ["passes on", str(s["in"]), "", "", "", str(s["out"])]
    dropped = sum(
        sum(counts.values()) for counts in (s["dropped"], *(step["dropped"] for step in s["steps"]))
    )
    counts = (s["done"], dropped, sum(s["failed"].values()), s["out"])
    tokens = f"{s['completion_tokens']:,}" if s["completion_tokens"] else ""
    seconds = "" if s["seconds"] is None else f"{s['seconds']:.1f}"
    return [s["state"], f"{s['in']}{_of_expected(s)}", *map(str, counts), tokens, seconds]


def _train_cells(train: dict[str, Any]) -> list[str]:
    result, line = train["result"], train["progress"]
    if result:
        cost = (f"{result['tokens']:,}", f"{result['seconds']:.1f}")
        return [DONE, str(result["examples"]), "", "", "", "", *cost]
    if train["state"] == NOT_BEGUN:
        return [NOT_BEGUN]
    return [f"step {line['step']}/{line['total']}" if line else UNDER_WAY]


def _notes(r: dict[str, Any]) -> list[str]:
    title = f"round {r['round']}"
    notes = [f"{title} published {d['rows']} {d['unit']} ({d['kind']}): {d['path']}" for d in r["datasets"]]
    for name, stage in r["stages"].items():
        if note := (stage.get("facts") or {}).get("note"):
            notes.append(f"{title}, {name}: {note}")
    for result in (r[t]["result"] for t in TRAININGS if r.get(t) and r[t]["result"]):
        loss = f", final loss {result['final_loss']:.3f}" if result["final_loss"] is not None else ""
        unit, shares = seen_as(result.get("kind", "sft")), result["shares"]
        notes.append(
            f"{title} trained on {result['examples']} {unit} ({shares.get('real', 0)} real + "
            f"{shares.get('synthetic', 0)} synthetic), {result['steps']} steps{loss}"
            f"{rewards(result.get('rewards'))}: {result['model']}"
        )
    return [printable(n) for n in notes]
