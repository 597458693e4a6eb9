"""What people are told of a set of tasks before anything is generated from it."""

from pipeline.rows import Row
from stages import answers
from stages.steps.decontaminate import Asked, search_for
from stages.tasks.records import TaskSet
from stages.tasks.split import same_question


def about(name: str, tasks: list[Row]) -> list[str]:
    """Return a sentence if questions that read the same have different answers."""
    first: dict[tuple[str, ...], Row] = {}
    differing = []
    for row in tasks:
        earlier = first.setdefault(same_question(row), row)
        if earlier is not row and not _agree(row, earlier):
            differing.append((earlier, row))
    if not differing:
        return []
    one, other = ((r.payload["source"]["where"], r.payload["answer"]) for r in differing[0])
    return [
        f"{name}: {_questions(len(differing), 'has', 'have')} another answer elsewhere, such as "
        f"{one[1][:40]!r} at {one[0]} and {other[1][:40]!r} at {other[0]}. Both are used"
    ]


def repeated_in(held_out: list[Row], tasks: list[Row], ngram: int) -> list[Row]:
    """Return the tasks that read the same as a held-out one, as decontamination compares them."""
    search = search_for((Asked.of(row.payload) for row in held_out), ngram)
    return [row for row in tasks if search.is_held_out(Asked.of(row.payload))]


def about_held_out(repeated: list[Row]) -> list[str]:
    """Return a sentence on the tasks that are left out because they repeat a question of held_out.source."""
    if not repeated:
        return []
    payload, count = repeated[0].payload, len(repeated)
    tasks, are = ("1 task reads", "is") if count == 1 else (f"{count} tasks read", "are")
    example = f"{payload['source']['where']}: {' '.join(payload['question'].split())[:100]}"
    return [f"held_out.source: {tasks} the same as a held-out question and {are} left out, such as {example}"]


def about_answers(demonstrations: TaskSet, verified: bool) -> list[str]:
    """Return a sentence on how many demonstrations end in an answer that can be read, where answers are
    `verified`, and where there are any."""
    payloads = [row.payload for row in demonstrations.rows if row.payload["entry"] is None]
    if not verified or not payloads:
        return []
    unread = [
        p for p in payloads if answers.extract(p["text"], p["answer_type"], p["options"]).answer is None
    ]
    read = f"{len(payloads) - len(unread)} of {len(payloads)}"
    said = f"{demonstrations.where}: {read} have an answer that can be read"
    if not unread:
        return [said]
    return [
        f"{said}. The others, such as {unread[0]['source']['where']}, teach a form that verify cannot read: "
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
