"""A row's way from its task to where it ended, as a page shows it: each stage with what it added or changed.

Payloads grow from stage to stage, so what a stage did is what a row has that its parent lacks. Ancestors are
looked up in the row's round; where one is not found, because a stage has too many rows to search or its
folder was removed, its part is shown with the next one.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import pyarrow as pa

from pipeline.display import round_title
from pipeline.printable import one_line
from pipeline.rundir import RoundKey, RunDir
from pipeline.stage import PROPOSE, STAGES
from pipeline.store import files, lookup
from stages.reports.page.embed import safe
from stages.reports.page.samples import COLUMNS, Sample, kept

Facts = dict[str, Any]
MANY = 100_000  # rows of a stage that is not searched for ancestors
ITEMS = 60  # of a list that are shown
NODES = 400  # of a tree
DEPTH = 6  # of nested values
LINE = 160  # characters of a title
# Payload keys that say nothing to people, or that a line above the rest tells.
_HIDDEN = {"task_id", "answer_type", "answer_marks", "entry", "source", "where", "split", "key", "vote"}
_TOLD = ("model", "sample", "finish_reason", "prompt_tokens", "completion_tokens", "sampling")


class Pool:
    """Values that samples share, such as the question of several answers: each is cleaned and stored once."""

    def __init__(self, limit: int) -> None:
        self.values: list[Any] = []
        self._limit = limit  # characters of one text
        self._places: dict[str | bytes, int] = {}

    def add(self, value: Any, name: str = "") -> int:
        """Return the place of a value of the payload key `name`."""
        key = value if isinstance(value, str) else orjson.dumps(value)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(_clean(value, self._limit, name))
        return self._places[key]


class Ancestors:
    """The rows that samples of one run come from, by round and id."""

    def __init__(self, run: RunDir, samples: Sequence[Sample]) -> None:
        self._run = run
        self._found: dict[tuple[RoundKey | None, str], tuple[str, list[str], Facts]] = {}
        tasks = {s.payload.get("task_id") for s in samples}
        sets = [name.rstrip("/").rsplit("/", 1)[1] for name in files.glob(run.tasks("sets"), "*")]
        for name in ("train", "held_out", "demonstrations", *(f"sets/{name}" for name in sets)):
            self._search(None, "task", files.glob(run.tasks(name), "part-*.arrow"), {t for t in tasks if t})
        for round_ in {s.kind.round for s in samples}:
            missing = {i for s in samples if s.kind.round == round_ for i in (s.id, *s.parents)}
            for stage in reversed((PROPOSE, *STAGES)):
                manifest = run.manifest(run.stage(round_, stage))
                if manifest and (manifest.passes_through or manifest.rows_out > MANY):
                    continue
                for parents in self._search(round_, stage, kept(run, round_, stage), missing):
                    missing.update(parents)

    def of(self, sample: Sample) -> list[tuple[str, str, Facts]]:
        """Return (stage, id, payload) of the row's task, its ancestors and itself, the task first."""
        round_, task_id = sample.kind.round, str(sample.payload.get("task_id"))
        own = self._found.get((round_, sample.id))
        way = [(own[0] if own else sample.kind.stage, sample.id, sample.payload)]
        at = next(iter(sample.parents), None)
        while at and (found := self._found.get((round_, at))) and len(way) <= len(STAGES):
            stage, parents, payload = found
            way.append((stage, at, payload))
            at = next(iter(parents), None)
        if (task := self._found.get((None, task_id))) and way[-1][1] != task_id:
            way.append(("task", task_id, task[2]))
        return way[::-1]

    def _search(
        self, round_: RoundKey | None, stage: str, paths: Iterable[str], ids: set[str]
    ) -> list[list[str]]:
        """Find rows by id; return their parents."""
        new = []
        for batch in (b for path in paths for b in lookup.read_columns(path, COLUMNS)):
            wanted = [i for i, row_id in enumerate(batch["id"].to_pylist()) if row_id in ids]
            for row in batch.take(pa.array(wanted, pa.int64())).to_pylist():
                if (round_, row["id"]) not in self._found:
                    self._found[round_, row["id"]] = (stage, row["parents"], orjson.loads(row["payload"]))
                    new.append(row["parents"])
        return new


def record(sample: Sample, ancestors: Ancestors, pool: Pool) -> list[Any]:
    """Return a sample for the page: two lines that name it, the steps of its way, and its end.

    A step is [stage, id, a one-line description, [field, place in the pool] ...].
    """
    steps: list[Any] = []
    before: Facts = {}
    for stage, row_id, payload in ancestors.of(sample):
        changed = {k: v for k, v in payload.items() if k not in before or before[k] != v}
        shown = [[k, pool.add(v, k)] for k, v in changed.items() if _is_shown(k, v)]
        steps.append([stage, row_id, _told(changed), shown])
        before = payload
    if sample.before:
        title = f"{round_title(sample.before[0])} answered"
        steps.insert(-1, [title, "", "", [["text", pool.add(sample.before[1])]]])
    raw = "" if sample.raw == sample.payload.get("text") else sample.raw
    titles = [
        _title(sample.payload.get("question") or _last(sample.payload, "prompt")),
        _title(_said(sample)),
    ]
    return [titles, steps, [pool.add(sample.detail), pool.add(raw)]]


def _said(sample: Sample) -> Any:
    payload = sample.payload
    answer = (payload.get("greedy") or {}).get("text") or payload.get("text") or sample.raw
    return answer or _last(payload, "chosen") or sample.detail


def _last(payload: Facts, name: str) -> Any:
    """Return the last message of a pair's prompt or answer, None for a row that is no pair."""
    messages = payload.get(name)
    last = messages[-1] if isinstance(messages, list) and messages else None
    return last.get("content") if isinstance(last, dict) else None


def _title(value: Any) -> str:
    return one_line(str(value), LINE) if value else ""


def _is_shown(name: str, value: Any) -> bool:
    told = name in _HIDDEN or name.endswith(_TOLD)
    return not told and value not in (None, "", [], {})


def _told(payload: Facts) -> str:
    """Return which model wrote a row, and how."""
    told = []
    if payload.get("model"):
        told.append(one_line(str(payload["model"]), 80))
    if isinstance(payload.get("sample"), int):
        told.append(f"sample {payload['sample']}")
    if payload.get("completion_tokens"):
        told.append(f"{payload['completion_tokens']:,} tokens")
    if payload.get("finish_reason") not in (None, "", "stop"):
        told.append(f"ended by {one_line(str(payload['finish_reason']), 40)}")
    return ", ".join(told)


def _clean(value: Any, limit: int, name: str = "", depth: int = DEPTH) -> Any:
    """Return a payload's value with its texts made safe and cut, and long lists shortened."""
    if isinstance(value, str):
        return safe(value, limit)
    if isinstance(value, list):
        if name == "tree" and value and isinstance(value[0], dict) and "parent" in value[0]:
            return {"nodes": [_node(node) for node in value[:NODES]], "of": len(value)}
        left = len(value) - ITEMS
        more = [f"… ({left:,} more)"] if left > 0 else []
        return [_clean(item, limit, "", depth - 1) for item in value[:ITEMS]] + more if depth else "…"
    if isinstance(value, dict):
        if not depth:
            return "…"
        hidden = {"key"} if "correct" in value else ()  # of a judged answer: what equal answers share
        return {safe(k, 80): _clean(v, limit, "", depth - 1) for k, v in value.items() if k not in hidden}
    return value


def _node(node: Facts) -> list[Any]:
    """Return [id, parent, action, observation, visits, mean value, reward, end] of a tree's node."""
    visits = node.get("visits") or 0
    mean = round(node["value"] / visits, 3) if visits else None
    action, seen = (one_line(str(node.get(name) or ""), 300) for name in ("action", "observation"))
    return [node["id"], node["parent"], action, seen, visits, mean, node.get("reward"), node.get("end") or ""]
