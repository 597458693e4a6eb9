"""Training data: each round's mixture, what was kept of what was made, and why rows were dropped."""

from collections import Counter
from typing import Any

from pipeline import sample_rows
from pipeline.overview import NOT_BEGUN, TRAININGS
from pipeline.rundir import RunDir
from pipeline.stage import LABELS, PAIRS, PROPOSE, PUBLISH, STAGES
from stages.reports.page.charts import Bar, bars
from stages.reports.page.embed import safe

Facts = dict[str, Any]
EXAMPLES = 3  # of each reason
REASONS = 12  # that have examples, in all rounds together
LOOK_AT = 20_000  # rejects of a stage to choose examples from
SHOWN = 1200  # characters of an example's text
FUNNEL = (PROPOSE, *STAGES, PUBLISH, PAIRS, LABELS)


def data(run: RunDir, rounds: list[Facts]) -> Facts:
    """Return the mixtures, the funnel of each round and the reasons; `rounds` are those of the overview."""
    begun = [r for r in rounds if r["round"] != "base"]
    return {
        "mixture": _mixture(begun),
        "funnels": [f for r in begun if r["round"] != 0 and (f := _funnel(r))],
        "reasons": _reasons(run, begun),
    }


def _mixture(rounds: list[Facts]) -> Facts | None:
    """Return what each training saw, by the round that its rows come from."""
    stacks = []
    sources: dict[int, None] = {}
    for r in rounds:
        results = [r[name]["result"] for name in TRAININGS if r.get(name) and r[name]["result"]]
        if not results or "rounds" not in results[-1].get("shares", {}):
            continue
        by_round = {int(k): n for k, n in results[-1]["shares"]["rounds"].items() if n}
        sources.update(dict.fromkeys(sorted(by_round)))
        parts = [(_color(source), n, _tip(r["round"], source, n)) for source, n in sorted(by_round.items())]
        stacks.append(Bar(str(r["round"]), parts))
    if not stacks:
        return None
    legend = [("real (round 0)" if s == 0 else f"made in round {s}", _color(s)) for s in sources]
    title = "Examples trained on, by the round they come from"
    return {"title": title, "svg": bars(title, stacks, "round"), "legend": legend, "caption": ""}


def _color(source: int) -> int:
    return 1 + (source - 1) % 7 if source else 0  # no round has the color of real data


def _tip(trained: Any, source: int, n: int) -> str:
    return f"round {trained} trained on {n:,} of round {source}"


def _funnel(r: Facts) -> Facts | None:
    """Return how many rows entered and left each stage of a round."""
    steps = []
    for name in FUNNEL:
        facts = r["stages"].get(name)
        if not facts or facts["state"] == NOT_BEGUN or facts["passes_through"]:
            continue
        dropped = Counter(facts["dropped"])
        for step in facts["steps"]:
            dropped.update(step["dropped"])
        steps.append(
            {
                "stage": name,
                "state": facts["state"],
                "in": facts["in"],
                "out": facts["out"],
                "dropped": dropped.total(),
                "failed": sum(facts["failed"].values()),
                "note": safe((facts.get("facts") or {}).get("note") or "", SHOWN),
            }
        )
    if not steps:
        return None
    most = max(max(s["in"], s["out"]) for s in steps) or 1
    outs = {s["stage"]: s["out"] for s in steps}
    return {
        "round": r["round"],
        "made": max(
            (outs[name] for name in STAGES[:2] if name in outs), default=0
        ),  # critique may divide rows
        "left": next((outs[name] for name in (PUBLISH, *reversed(STAGES)) if name in outs), 0),
        "published": PUBLISH in outs,
        "steps": [{**s, "share": s["out"] / most} for s in steps],
    }


def _reasons(run: RunDir, rounds: list[Facts]) -> list[Facts]:
    """Return for each stage and reason how many rows it took in each round, the most frequent first, with
    examples of its last round.
    """
    found: dict[tuple[str, str, str], dict[int, int]] = {}
    for r in rounds:
        for stage, facts in r["stages"].items():
            dropped = Counter(facts["dropped"])
            for step in facts["steps"]:
                dropped.update(step["dropped"])
            for kind, reasons in (("dropped", dropped), ("failed", facts["failed"])):
                for reason, n in reasons.items():
                    found.setdefault((stage, kind, reason), {})[r["round"]] = n
    ordered = sorted(found.items(), key=lambda item: -sum(item[1].values()))
    examples = _examples(run, ordered[:REASONS])
    most = sum(ordered[0][1].values()) if ordered else 1
    return [
        {
            "stage": key[0],
            "kind": key[1],
            "reason": safe(key[2], 80),
            "total": sum(by_round.values()),
            "share": sum(by_round.values()) / most,
            "by_round": by_round,
            "last": max(by_round),
            "examples": examples.get(key, []),
        }
        for key, by_round in ordered
    ]


def _examples(run: RunDir, reasons: list[Any]) -> dict[Any, list[Facts]]:
    wanted: dict[tuple[int, str, str], set[str]] = {}
    for (stage, kind, reason), by_round in reasons:
        wanted.setdefault((max(by_round), stage, kind), set()).add(reason)
    examples = {}
    for (round_, stage, kind), names in wanted.items():
        folder = run.stage(round_, stage)
        by_reason = sample_rows.rejects(folder, kind, EXAMPLES, names, look_at=LOOK_AT)
        for reason in names:
            examples[stage, kind, reason] = [_example(reject) for reject in by_reason.get(reason, [])]
    return examples


def _example(reject: Facts) -> Facts:
    payload = reject["payload"]
    text = reject["raw"] or payload.get("text") or ""
    return {
        "id": reject["id"],
        "question": safe(payload.get("question") or "", SHOWN // 2),
        "answer": None if payload.get("answer") is None else safe(payload["answer"], 200),
        "text": safe(text, SHOWN),
        "detail": safe(reject["detail"] or "", 400),
    }
