"""Turn a source's row into a task: columns to fields, values to text, and an id derived from the content."""

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

# Sources that generate their tasks, and need the whole of each again to score or replay it.
WITH_ENTRY = ("reasoning_gym", "environment")


class UnusableError(ValueError):
    """A row cannot become a task; the message names the column and the reason."""


def mapped_columns(source: Source) -> dict[str, str]:
    """Return {field: column} for the columns that the recipe names."""
    return {field: column for field, column in source.columns.model_dump().items() if column is not None}


def missing(column: str, field: str, there: list[str]) -> str:
    """Describe a missing column: which ones exist, and what to write into the recipe."""
    near = nearest(column, there)
    hint = " Without ground truth, set columns.answer: null." if field == "answer" else ""
    if near:
        hint = f" Did you mean columns.{field}: {near!r}?"
    return f"no column {column!r} for the {field}; there are: {', '.join(map(repr, there)) or 'none'}.{hint}"


def to_row(raw: RawRow, source: Source, demonstration: bool) -> Row:
    """Return the task (or demonstration) in `raw`. Raises UnusableError.

    The id derives from columns.id if set, else from the content, never from the file or the position in it.
    """
    values = {}
    for field, column in mapped_columns(source).items():
        if column not in raw.values:
            raise UnusableError(missing(column, field, list(raw.values)))
        values[field] = raw.values[column]
    entry = raw.values.get("entry") if source.source in WITH_ENTRY else None
    question = _text(values["question"], f"the question (column {source.columns.question!r})", numbers=False)
    options = _options(values.get("options"))
    solution = None
    if not _is_blank(values.get("solution")):
        solution = _text(values["solution"], "the solution", numbers=False)
    answer = _answer(values, optional=entry is not None or (demonstration and solution is not None))
    if answer is not None and entry is None and (problem := check_truth(answer, source.answer_type, options)):
        raise UnusableError(f"the answer {answer[:80]!r} is not a {source.answer_type}: {problem}")
    if demonstration and answer is None and solution is None:
        raise UnusableError(
            "a demonstration needs an answer or a solution; set columns.answer or columns.solution"
        )
    given = _text(values["id"], "the id") if "id" in values else raw.id
    # Two solutions of one question are two demonstrations, but a task is the same whatever its solution.
    content = [question, answer, options, *([solution] if demonstration else [])]
    row_id = digest(["content", *content] if given is None else ["given", given])[:ID_CHARS]
    payload = {
        "task_id": row_id,
        "question": question,
        "answer": answer,
        "answer_type": source.answer_type,
        "options": options,
        "solution": solution,
        "entry": entry,
        "source": _origin(source, raw.where, given),
    }
    if raw.split is not None:
        payload["split"] = raw.split
    if "document" in values:
        payload["document"] = _text(values["document"], "the document")
    return Row(row_id, payload)


def _origin(source: Source, where: str, given: str | None) -> dict[str, Any]:
    origin: dict[str, Any] = {"source": source.source, "where": where}
    if source.dataset is not None:
        # What the dataset's scorer is made from.
        origin |= {"dataset": source.dataset, "options": source.options}
    if source.path is not None:
        origin["path"] = source.path
    return origin if given is None else origin | {"id": given}


def _answer(values: dict[str, Any], optional: bool) -> str | None:
    if "answer" not in values or (optional and _is_blank(values["answer"])):
        return None
    if values["answer"] is None:
        raise UnusableError("the answer is null; if no row has ground truth, set columns.answer: null")
    return _text(values["answer"], "the answer")


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _text(value: Any, what: str, numbers: bool = True) -> str:
    """Return a text as it is and, with `numbers`, a number as it is written. Errors call it `what`."""
    number = isinstance(value, Written | int | Decimal) or (isinstance(value, float) and math.isfinite(value))
    if not (numbers if number else isinstance(value, str)):
        expected = "a text or a number" if numbers else "a text"
        raise UnusableError(f"{what} is {json_type(value)}; expected {expected}")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text.strip():
        raise UnusableError(f"{what} is empty")
    if (nul := text.find("\0")) >= 0:
        raise UnusableError(f"{what} has a NUL character at position {nul + 1}; is the file text?")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise UnusableError(f"{what} has half of a surrogate pair at position {e.start + 1}") from None
    return text


def _options(value: Any) -> list[str] | None:
    """Return the option texts from a list, or from a list as JSON text (in a CSV cell)."""
    if _is_blank(value):
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_int=Written, parse_float=Written)
        except (ValueError, RecursionError) as e:
            raise UnusableError(f'the options are not a JSON list, such as ["yes", "no"]: {e}') from None
    if not isinstance(value, list | tuple):
        raise UnusableError(f"the options are {json_type(value)}; expected a list of texts")
    options = [_text(v, f"option {i}") for i, v in enumerate(value, 1)]
    if len(options) < 2:
        raise UnusableError(f"a choice among {len(options)} options; expected two or more")
    if twins := [o for i, o in enumerate(options) if o in options[:i]]:
        raise UnusableError(f"the option {twins[0][:80]!r} occurs twice")
    return options


def json_type(value: Any) -> str:
    """Return what JSON calls the type of a value, for error messages."""
    if isinstance(value, Written) or type(value) in (int, float):
        return f"the number {str(value)[:80]}"
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null", str: "a text"}
    return names.get(type(value), f"a value of type {type(value).__name__}")
