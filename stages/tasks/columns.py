"""From a row's columns to the values that the recipe names: by name, or by a dotted path into nested ones."""

import ast
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pipeline.config import Source
from pipeline.errors import nearest
from stages.tasks.records import Unreadable, UnusableError, Written


def mapped_columns(source: Source) -> Iterator[tuple[str, str]]:
    """Yield (field, column) for each column that the recipe names."""
    for field, columns in source.columns:
        for column in columns if isinstance(columns, list) else [columns]:
            if column is not None:
                yield field, column


def top_level(source: Source) -> set[str]:
    """Return the names of columns that the recipe may mean: each as a whole, and as the start of a path."""
    names = {column for _, column in mapped_columns(source)}
    return names | {name.split(".")[0] for name in names}


def is_there(column: str, columns: Mapping[str, Any]) -> bool:
    """Tell whether there is such a column, or one that the path leads into."""
    return column in columns or ("." in column and column.split(".")[0] in columns)


def missing(column: str, field: str, there: list[str]) -> str:
    """Describe a missing column: which ones exist, and what to write into the recipe."""
    near = nearest(column.split(".")[0], there)
    hint = " Without ground truth, set columns.answer: null." if field == "answer" else ""
    if near:
        hint = f" Did you mean columns.{field}: {near!r}?"
    if len(there) == 1 and (found := next((d for d in (";", "\t", "|", ",") if d in there[0]), None)):
        hint = f" The header seems to be divided by {found!r}: set options.delimiter: {json.dumps(found)}."
    return f"no column {column!r} for the {field}; there are: {', '.join(map(repr, there)) or 'none'}.{hint}"


def look_up(values: Mapping[str, Any], column: str, field: str) -> Any:
    """Return what a row has at `column`. Raises UnusableError.

    A column of just that name comes first. Else each part after a dot is a key of an object, or the index of
    an item of a list (from 0); a key of the objects in a list is that of each of them. An object or a list
    may also be JSON text.
    """
    name, *path = (column,) if column in values else column.split(".")
    if name not in values:
        raise UnusableError(missing(column, field, list(values)))
    value, at = readable(values[name], f"column {name!r}"), name
    for part in path:
        value, at = _step(value, part, at, field), f"{at}.{part}"
        value = readable(value, f"{at!r}")
    return value


def readable(value: Any, what: str) -> Any:
    """Return `value` unless it stands for one that cannot be read. Raises UnusableError."""
    if isinstance(value, Unreadable):
        raise UnusableError(f"{what} cannot be used: {value.problem}")
    return value


def from_json(text: str) -> Any:
    """Return the object or list that `text` is, with numbers as they are written, else the text.

    It is JSON, or as Python prints it, which tables written by pandas have in their cells.
    """
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text, parse_int=Written, parse_float=Written)
        except (ValueError, RecursionError):
            pass
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return ast.literal_eval(text.strip())
    return text


def _step(value: Any, part: str, at: str, field: str) -> Any:
    value = from_json(value) if isinstance(value, str) else value
    if value is None:
        return None
    if isinstance(value, Mapping):
        if part not in value:
            near, there = nearest(part, map(str, value)), ", ".join(map(repr, value)) or "none"
            hint = f" Did you mean columns.{field}: '{at}.{near}'?" if near else ""
            raise UnusableError(f"no {part!r} in {at!r} for the {field}; there are: {there}.{hint}")
        return value[part]
    if isinstance(value, list | tuple):
        if part.removeprefix("-").isdecimal():
            index = int(part)
            if not -len(value) <= index < len(value):
                raise UnusableError(f"no item {part} in {at!r} for the {field}, which has {len(value)}")
            return value[index]
        return [_step(item, part, at, field) for item in value]
    raise UnusableError(
        f"{at!r} is not nested, so that columns.{field} cannot name {part!r} in it; name {at!r} itself"
    )
