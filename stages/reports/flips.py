"""Which questions one model answers right and another does not, with both answers."""

from collections.abc import Sequence
from typing import Any

import orjson

from pipeline.rundir import RoundKey, RunDir
from stages.reports.comparison import Arm
from stages.rounds.measures import STAGE

Model = tuple[RunDir, RoundKey]


def flips(arm: Arm, before: Sequence[Arm], limit: int) -> list[dict[str, Any]]:
    """Return the flips of each of the arm's runs (see `between`).

    The first arm's last round is compared with its baseline; that of any other with the first arm's run of
    the same seed (else its first run), in the last round that both have.
    """
    if not before:
        return [between((run, arm.first), (run, arm.rounds or arm.first), limit) for run in arm.runs]
    first = before[0]
    by_seed = {run.recipe().seed: run for run in reversed(first.runs)}
    last = min(arm.rounds, first.rounds)
    return [
        between((by_seed.get(run.recipe().seed, first.runs[0]), last), (run, last), limit) for run in arm.runs
    ]


def between(old: Model, new: Model, limit: int) -> dict[str, Any]:
    """Return how many held-out questions `new` answers right and `old` did not (`won`), and the other way
    round (`lost`), and up to `limit` of each: task_id, question, truth, and the answers `old` and `new`.

    A failed request has no answer (None), and is wrong. Questions that only one was asked are left out.
    `graded` answers are more or less right: those won are better than before, those lost worse.
    """
    a, b = _answers(*old), _answers(*new)
    both = [i for i in a if i in b]
    found: dict[str, Any] = {"old": _named(old), "new": _named(new), "n": len(both)}
    found["graded"] = any(of[i]["correct"] not in (0, 1) for of in (a, b) for i in both)
    for name, sign in (("won", 1), ("lost", -1)):
        flipped = [i for i in both if sign * (b[i]["correct"] - a[i]["correct"]) > 0]
        shown = [_flip(i, a[i], b[i]) for i in sorted(flipped)[:limit]]
        found |= {name: len(flipped), f"{name}_questions": shown}
    return found


def _flip(task_id: str, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    known = {key: new[key] for key in ("question", "truth")}
    return {"task_id": task_id, **known, "old": old["text"], "new": new["text"]}


def _named(model: Model) -> dict[str, Any]:
    return {"run": model[0].root, "round": model[1]}


def _answers(run: RunDir, round_: RoundKey) -> dict[str, dict[str, Any]]:
    folder, found = run.stage(round_, STAGE), {}
    for row in run.rows(folder):
        greedy = row.payload["greedy"]
        found[row.payload["task_id"]] = _asked(row.payload) | {
            "text": greedy.get("text"),
            "correct": float(greedy["correct"]),
        }
    for reject in run.rejects(folder, "failed"):
        found[reject["id"]] = _asked(orjson.loads(reject["payload"])) | {"text": None, "correct": 0.0}
    return found


def _asked(payload: dict[str, Any]) -> dict[str, Any]:
    question = "\n".join([str(payload.get("question", "")), *map(str, payload.get("options") or ())])
    return {"question": question, "truth": payload.get("answer")}
