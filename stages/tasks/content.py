"""From a source's row to a task's payload: columns to fields, values to text, and the id that the content has."""

import json
import math
from decimal import Decimal
from typing import Any

from pipeline.config import Source
from pipeline.errors import nearest
from pipeline.ids import ID_CHARS, digest
from pipeline.rows import Row
from stages.answers import check_truth
from stages.tasks.records import RawRow, Written

WITH_ENTRY = (
    "reasoning_gym",
    "environment",
)  # sources that make their tasks, and need the whole of each again to judge what became of it


class UnusableError(ValueError):
    """A row cannot become a task; the message says which column and why."""


def mapped_columns(source: Source) -> dict[str, str]:
    """Return field -> column, for the columns that the recipe names."""
    return {field: column for field, column in source.columns.model_dump().items() if column is not None}


def missing(column: str, field: str, there: list[str]) -> str:
    """Say that a column is not there, which ones are, and what to write into the recipe."""
    near = nearest(column, there)
    hint = f" Did you mean columns.{field}: {near!r}?" if near else ""
    without = " Without ground truth, set columns.answer: null." if field == "answer" and not near else ""
    return f"no column {column!r} for the {field}; there are: {', '.join(map(repr, there)) or 'none'}.{hint}{without}"


def to_row(raw: RawRow, source: Source, demonstration: bool) -> Row:
    """Return the task (or demonstration) in `raw`. Raises UnusableError.

    The id is that of columns.id when there is one, else of the content, so that it does not depend on file order or place.
    """
    values = {}
    for field, column in mapped_columns(source).items():
        if column not in raw.values:
            raise UnusableError(missing(column, field, list(raw.values)))
        values[field] = raw.values[column]
    entry = raw.values.get("entry") if source.source in WITH_ENTRY else None
    question = _text(values["question"], f"the question (column {source.columns.question!r})", numbers=False)
    options = _options(values.get("options"))
    solution = (
        None
        if _is_nothing(values.get("solution"))
        else _text(values["solution"], "the solution", numbers=False)
    )
    answer = _answer(values, optional=entry is not None or (demonstration and solution is not None))
    if answer is not None and entry is None and (problem := check_truth(answer, source.answer_type, options)):
        raise UnusableError(f"the answer {answer[:80]!r} is no {source.answer_type}: {problem}")
    if demonstration and answer is None and solution is None:
        raise UnusableError(
            "a demonstration needs an answer or a solution; name the column of one (columns.answer, columns.solution)"
        )
    given = _text(values["id"], "the id") if "id" in values else raw.id
    # Two worked solutions of one question are two demonstrations, but a task stays the same task whatever is worked out for it.
    content = [question, answer, options, solution] if demonstration else [question, answer, options]
    row_id = digest(["given", given] if given is not None else ["content", *content])[:ID_CHARS]
    payload = {
        "task_id": row_id,
        "question": question,
        "answer": answer,
        "answer_type": source.answer_type,
        "options": options,
        "solution": solution,
        "entry": entry,
        "source": _origin(source, raw.where, given),
        **({"split": raw.split} if raw.split is not None else {}),
    }
    if "document" in values:
        payload["document"] = _text(values["document"], "the document")
    return Row(row_id, payload)


def _origin(source: Source, where: str, given: str | None) -> dict[str, Any]:
    origin: dict[str, Any] = {"source": source.source, "where": where}
    if source.dataset is not None:
        origin |= {
            "dataset": source.dataset,
            "options": source.options,
        }  # what the dataset's own scorer is made from
    if source.path is not None:
        origin["path"] = source.path
    return origin if given is None else origin | {"id": given}


def _answer(values: dict[str, Any], optional: bool) -> str | None:
    if "answer" not in values or (optional and _is_nothing(values["answer"])):
        return None
    if values["answer"] is None:
        raise UnusableError("the answer is null; where no row has ground truth, set columns.answer: null")
    return _text(values["answer"], "the answer")


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _text(value: Any, what: str, numbers: bool = True) -> str:
    """Return a text as it is, and a number as it is written. `what` names the value for the message."""
    if isinstance(value, str) and (numbers or not isinstance(value, Written)):
        text = str(value)
    elif numbers and isinstance(value, bool):
        text = "true" if value else "false"
    elif numbers and (
        isinstance(value, int | Decimal) or (isinstance(value, float) and math.isfinite(value))
    ):
        text = str(value)
    else:
        raise UnusableError(
            f"{what} is {kind(value)}; expected {'a text or a number' if numbers else 'a text'}"
        )
    if not text.strip():
        raise UnusableError(f"{what} is empty")
    if "\0" in text:
        raise UnusableError(
            f"{what} has a NUL character at position {text.index(chr(0)) + 1}; is the file text?"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise UnusableError(
            f"{what} has half of a surrogate pair at position {e.start + 1}, which is no character"
        ) from None
    return text


def _options(value: Any) -> list[str] | None:
    """Return the option texts from a list, or from JSON text of one (as CSV has it)."""
    if _is_nothing(value):
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_int=Written, parse_float=Written)
        except (ValueError, RecursionError) as e:
            raise UnusableError(
                f'the options are not JSON text of a list, such as ["yes", "no"]: {e}'
            ) from None
    if not isinstance(value, list | tuple):
        raise UnusableError(f"the options are {kind(value)}; expected a list of texts")
    options = [_text(v, f"option {i}") for i, v in enumerate(value, 1)]
    if len(options) < 2:
        raise UnusableError(f"a choice among {len(options)} options; expected two or more")
    if twins := [o for i, o in enumerate(options) if o in options[:i]]:
        raise UnusableError(f"the option {twins[0][:80]!r} stands twice")
    return options


def kind(value: Any) -> str:
    """Name the type of a value for people, the way JSON calls it."""
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null", str: "a text"}
    if isinstance(value, Written) or type(value) in (int, float):
        return f"the number {str(value)[:80]}"
    return names.get(type(value), f"a value of type {type(value).__name__}")
