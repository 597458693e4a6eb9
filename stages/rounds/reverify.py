"""What other filters and verifiers say about a run's stored answers, and which verdicts that changes."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.config import Recipe
from pipeline.generations import JUDGED
from pipeline.rundir import RunDir
from stages.rounds.loop import Loop

KEPT = "kept"


class Fate(NamedTuple):
    """What became of an answer in filter and verify: `verdict` is kept, or stage and reason."""

    verdict: str
    detail: str = ""


async def judge_again(source: RunDir, target: RunDir, recipe: Recipe, rounds: Sequence[int]) -> None:
    """Run filter and verify of `rounds` of `target`, which has the answers of `source`. Restartable."""
    async with Loop(target, recipe, models=source) as loop:
        for number in rounds:
            for name in JUDGED:
                await loop.stage(number, name)


def is_judged(run: RunDir, number: int) -> bool:
    """Tell whether filter and verify of a round are done."""
    return all(run.manifest(run.stage(number, name)) for name in JUDGED)


def changes(source: RunDir, target: RunDir, number: int, examples: int = 3) -> dict[str, Any]:
    """Return how the verdicts on a round's answers differ between two runs, with `examples` of each change.

    Of an answer that became several rows one kept row counts. Memory: some 500 bytes an answer.
    """
    before = fates(source, number) if is_judged(source, number) else None
    now = fates(target, number)
    changed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for id_, fate in now.items():
        if before and before[id_].verdict != fate.verdict:
            changed[before[id_].verdict, fate.verdict].append(id_)
    shown = {kind: sorted(ids)[:examples] for kind, ids in changed.items()}
    wanted = {id_ for ids in shown.values() for id_ in ids}
    rows = target.rows(target.stage(number, "critique"))
    answers = {row.id: row.payload for row in rows if row.id in wanted}
    asked = [m.requests for name in JUDGED if (m := target.manifest(target.stage(number, name)))]
    return {
        "round": number,
        "answers": len(now),
        "before": _counts(before) if before else None,
        "now": _counts(now),
        "requests": sum(requests.sent for requests in asked),
        "from_log": sum(requests.from_log for requests in asked),
        "changed": [
            {
                "before": kind[0],
                "now": kind[1],
                "answers": len(ids),
                "examples": [_example(i, answers[i], before[i], now[i]) for i in shown[kind] if before],
            }
            for kind, ids in sorted(changed.items(), key=_order)
        ],
    }


def fates(run: RunDir, number: int) -> dict[str, Fate]:
    """Return what a round's filter and verify made of each answer, by its id."""
    answer_of = {row.id: row.id for row in run.rows(run.stage(number, "critique"))}
    found: dict[str, Fate] = {}
    for name in JUDGED:
        folder, passed = run.stage(number, name), {}
        manifest = run.manifest(folder)
        if manifest is not None and manifest.passes_through:
            continue
        found |= dict.fromkeys(answer_of.values(), Fate("not passed on"))
        for reject in _rejects(run, folder):
            if answer := _origin(answer_of, reject["id"], reject["parents"]):
                found[answer] = Fate(f"{name}: {reject['reason']}", reject["detail"])
        for row in run.rows(folder):
            if answer := _origin(answer_of, row.id, row.parents):
                passed[row.id] = answer
                score = (row.payload.get("verdict") or {}).get("score")
                found[answer] = Fate(KEPT, "" if score is None else f"score {score:.3g}")
        answer_of = passed
    return dict.fromkeys(answer_of.values(), Fate(KEPT)) | found


def _origin(answer_of: dict[str, str], id_: str, parents: list[str]) -> str | None:
    """Return the answer that a row of a stage comes from; rows made of several come from the first."""
    return next((answer_of[i] for i in (id_, *parents) if i in answer_of), None)


def _rejects(run: RunDir, folder: str) -> Iterator[dict[str, Any]]:
    for kind in ("dropped", "failed"):
        yield from run.rejects(folder, kind)


def _order(change: tuple[tuple[str, str], list[str]]) -> tuple[Any, ...]:
    """Sort what is no longer kept first, then what is kept now, then other reasons; by number."""
    (before, now), ids = change
    return before != KEPT, now != KEPT, -len(ids), before, now


def _counts(fates: dict[str, Fate]) -> dict[str, int]:
    return dict(Counter(fate.verdict for fate in fates.values()).most_common())


def _example(id_: str, payload: dict[str, Any], before: Fate, now: Fate) -> dict[str, str]:
    question, text = (str(payload.get(key, "")) for key in ("question", "text"))
    return {"row": id_, "question": question, "answer": text, "before": before.detail, "now": now.detail}
