"""What people are told of a set of tasks before anything is generated from it."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pipeline.rows import Row
from pipeline.store.spool import Rows
from stages import answers


def about(name: str, tasks: Rows, first: np.ndarray) -> list[str]:
    """Return a sentence if questions that read the same have different answers.

    `first` is for each task the place of the first that reads the same.
    """
    count, example = 0, ""
    for place in np.flatnonzero(first != np.arange(len(first))).tolist():
        row, earlier = tasks[place], tasks[first[place]]
        if not _agree(row, earlier):
            one, other = ((r.payload["answer"][:40], r.payload["source"]["where"]) for r in (earlier, row))
            example = example or f"{one[0]!r} at {one[1]} and {other[0]!r} at {other[1]}"
            count += 1
    if not count:
        return []
    has = _questions(count, "has", "have")
    return [f"{name}: {has} another answer elsewhere, such as {example}. Both are used"]


def about_held_out(repeated: Sequence[Row]) -> list[str]:
    """Return a sentence on the tasks that are left out because they repeat a question of held_out.source."""
    if not repeated:
        return []
    payload, count = repeated[0].payload, len(repeated)
    tasks, are = ("1 task reads", "is") if count == 1 else (f"{count} tasks read", "are")
    example = f"{payload['source']['where']}: {' '.join(payload['question'].split())[:100]}"
    return [f"held_out.source: {tasks} the same as a held-out question and {are} left out, such as {example}"]


def about_answers(where: str, demonstrations: Iterable[Row]) -> list[str]:
    """Return a sentence on how many demonstrations end in an answer that can be read, where there are any."""
    count = unread = 0
    example = ""
    for payload in (row.payload for row in demonstrations if row.payload["entry"] is None):
        count += 1
        if _marked(payload) is None:
            unread += 1
            example = example or payload["source"]["where"]
    if not count:
        return []
    said = f"{where}: {count - unread} of {count} have an answer that can be read"
    if not unread:
        return [said]
    return [
        f"{said}. The others, such as {example}, teach a form that verify cannot read: "
        "name the answer (demonstrations.columns.answer), and its mark if it stands in a text "
        "(demonstrations.answer_mark)"
    ]


def _questions(count: int, one: str, several: str) -> str:
    return f"1 question {one}" if count == 1 else f"{count} questions {several}"


def _agree(row: Row, earlier: Row) -> bool:
    """Tell whether two tasks have a right answer in common, by value or (math, which is slow) by its text."""
    kind, options = row.payload["answer_type"], row.payload.get("options")
    mine, others = (r.payload.get("answers") or [r.payload["answer"]] for r in (row, earlier))
    if None in mine or None in others:
        return True
    if kind == "math":
        return not {"".join(a.split()) for a in mine}.isdisjoint("".join(a.split()) for a in others)
    return any(answers.equal(a, b, kind, options) for a in mine for b in others)


def _marked(p: dict[str, Any]) -> str | None:
    marks, lines = p.get("answer_marks") or (), answers.lines_of(p["answer"])
    return answers.extract(p["text"], p["answer_type"], p["options"], marks, lines).answer
