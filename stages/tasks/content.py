"""Turn a source's row into a task: columns to fields, values to text, and an id derived from the content."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.config import Source
from pipeline.ids import ID_CHARS, digest
from pipeline.rows import Row
from stages.answers import check_truth
from stages.sandbox.layouts import TestsError, read_tests
from stages.tasks import chats
from stages.tasks.choices import Choices, as_letter, check_twins, read_options
from stages.tasks.columns import look_up
from stages.tasks.records import RawRow, UnusableError
from stages.tasks.texts import is_blank, json_type, marked, text_of

# Sources that generate their tasks, and need the whole of each again to score or replay it.
WITH_ENTRY = ("reasoning_gym", "environment")


class Question(NamedTuple):
    """What a task asks: the last user message, and the messages before it."""

    text: str
    turns: chats.Turns


def to_row(raw: RawRow, source: Source, demonstration: bool) -> Row:
    """Return the task (or demonstration) in `raw`. Raises UnusableError.

    The id derives from columns.id if set, else from the content, never from the file or the position in it.
    """
    values = _values(raw.values, source)
    entry = raw.values.get("entry") if source.source in WITH_ENTRY else None
    question = _question(values["question"], source.columns.question)
    choices = read_options(values.get("options"), source.columns.options)
    solution = _solution(values.get("solution"), source)
    truths = _truths(
        values, source, choices, optional=entry is not None or (demonstration and bool(solution))
    )
    answer = truths[0] if truths else None
    if entry is None:
        _check(truths, source, choices)
    if demonstration and answer is None and solution is None:
        raise UnusableError(
            "a demonstration needs an answer or a solution; set columns.answer or columns.solution"
        )
    given = text_of(_single(values["id"], "the id"), "the id") if "id" in values else raw.id
    options = choices.texts if choices else None
    # Two solutions of one question are two demonstrations, but a task is the same whatever its solution.
    content: list[Any] = [question.text, answer, options, *([solution] if demonstration else [])]
    more: dict[str, Any] = {"answers": truths} if len(truths) > 1 else {}
    more |= {"turns": question.turns} if question.turns else {}
    more |= {"tests": _tests(values)} if "tests" in values else {}
    if more:
        content.append(more)
    row_id = digest(["content", *content] if given is None else ["given", given])[:ID_CHARS]
    payload = {
        "task_id": row_id,
        "question": question.text,
        "answer": answer,
        "answer_type": source.answer_type,
        "options": options,
        "solution": solution,
        "entry": entry,
        "source": _origin(source, raw.where, given),
        **more,
    }
    if raw.split is not None:
        payload["split"] = raw.split
    if "document" in values:
        payload["document"] = text_of(_single(values["document"], "the document"), "the document")
    return Row(row_id, payload)


def _origin(source: Source, where: str, given: str | None) -> dict[str, Any]:
    origin: dict[str, Any] = {"source": source.source, "where": where}
    if source.dataset is not None:
        # What the dataset's scorer is made from.
        origin |= {"dataset": source.dataset, "options": source.options}
    if source.path is not None:
        origin["path"] = source.path
    return origin if given is None else origin | {"id": given}


def _values(values: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """Return the values of the columns that the recipe names, by field."""
    found: dict[str, Any] = {}
    for field, column in source.columns:
        if isinstance(column, list):
            found[field] = [look_up(values, one, field) for one in column]
        elif column is not None:
            found[field] = look_up(values, column, field)
    return found


def _question(value: Any, column: str) -> Question:
    what = f"the question (column {column!r})"
    if turns := chats.messages(value, what):
        text, before = chats.question_of(turns, what)
        return Question(text_of(text, what, numbers=False), before)
    return Question(text_of(_single(value, what), what, numbers=False), [])


def _solution(value: Any, source: Source) -> str | None:
    """Return the worked text without the answer's mark: of messages the last reply, of several the first."""
    if turns := chats.messages(value, "the solution"):
        value = chats.reply_of(turns)
    if isinstance(value, list | tuple):
        value = next((item for item in value if not is_blank(item)), None)
    if is_blank(value):
        return None
    text = text_of(value, "the solution", numbers=False)
    mark = source.answer_mark
    if mark and mark != "boxed" and mark in text:
        text = text.rpartition(mark)[0].rstrip()
    return text or None


def _tests(values: dict[str, Any]) -> dict[str, Any]:
    name = values.get("entry_point")
    try:
        return read_tests(values["tests"], None if is_blank(name) else text_of(name, "the entry point"))
    except TestsError as e:
        raise UnusableError(f"tests: {e}") from None


def _truths(values: dict[str, Any], source: Source, choices: Choices | None, optional: bool) -> list[str]:
    """Return the right answers, each once; none if the recipe names no column, or none is needed."""
    if "answer" not in values or (optional and is_blank(values["answer"])):
        return []
    value = values["answer"]
    if turns := chats.messages(value, "the answer"):
        value = chats.reply_of(turns)
    several = [item for item in value if item is not None] if isinstance(value, list | tuple) else [value]
    if value is None or not several:
        kind = "null" if value is None else "an empty list"
        raise UnusableError(f"the answer is {kind}; if no row has ground truth, set columns.answer: null")
    texts = [text_of(item, "the answer") for item in several]
    if source.answer_mark:
        texts = [marked(text, source.answer_mark) for text in texts]
    if source.answer_type == "choice":
        texts = [as_letter(text, choices, source.answer_is) for text in texts]
    return list(dict.fromkeys(texts))


def _check(truths: list[str], source: Source, choices: Choices | None) -> None:
    """Raise UnusableError unless each answer is one of the task's type."""
    for truth in truths:
        if problem := check_truth(truth, source.answer_type, choices.texts if choices else None):
            text = f"the answer {truth[:80]!r} is not a {source.answer_type}: {problem}"
            raise UnusableError(text + _hint(truth, source))
    check_twins(choices, truths)


def _hint(truth: str, source: Source) -> str:
    if source.answer_mark:
        return ""
    if "####" in truth:
        return ". Set answer_mark: '####' (or preset: gsm8k) to read what follows it"
    if "\\boxed" in truth:
        return ". Set answer_mark: boxed to read what the last box holds"
    return ""


def _single(value: Any, what: str) -> Any:
    """Return the only item of a list, or a value that is none. Raises UnusableError for several items."""
    if not isinstance(value, list | tuple):
        return value
    if len(value) == 1:
        return value[0]
    if value and all(isinstance(item, Mapping) for item in value):
        raise UnusableError(f"{what} is a list of objects; expected messages {{role, content}} or a text")
    raise UnusableError(f"{what} is a list of {len(value)}; expected one text ({json_type(value)})")
