"""Seed guidelines: general ways to think about a problem, which a method fits to each question. Source: ReGenesis 1.2.

A file of them is JSON lines with three fields: index (its number, which row ids are made from), type (a name to group by;
"revision" marks those that presuppose an earlier solution) and text.
"""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import DataError
from stages.tasks.paths import find_files, lines, not_utf8, open_file

DEFAULT = "data/guidelines.jsonl"
REVISION = "revision"


class Guideline(BaseModel):
    """One seed guideline. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    type: str = Field(min_length=1)
    text: str = Field(min_length=1)


class _Line(Guideline):
    index: int = Field(ge=0, strict=True)


def read_guidelines(path: str) -> dict[int, Guideline]:
    """Return the guidelines of a file by index, in the order of the indices. Raises DataError naming file and line."""
    found: dict[int, Guideline] = {}
    first: dict[int | str, int] = {}  # index or text: the line it stands in
    for file in find_files(path, "guidelines", (".jsonl",)):
        with open_file(file) as f:
            for line in lines(f):
                where = f"{file}:{line.number}"
                if not line.data.strip():
                    continue
                try:
                    read = _Line.model_validate(_object(where, json.loads(line.data.decode("utf-8"))))
                except UnicodeDecodeError as e:
                    raise DataError(f"{where}: {not_utf8(file, line, e)}") from None
                except (ValidationError, ValueError, RecursionError) as e:
                    raise DataError(f"{where}: {_explain(e)}; expected a line such as {_EXAMPLE}") from None
                for what, value in (("index", read.index), ("text", read.text)):
                    if value in first:
                        raise DataError(
                            f"{where}: the {what} {value!r:.80} stands in line {first[value]} already."
                        )
                    first[value] = line.number
                found[read.index] = Guideline(type=read.type, text=read.text)
    if not found:
        raise DataError(f"{path}: there is no guideline in it; expected lines such as {_EXAMPLE}")
    return dict(sorted(found.items()))


_EXAMPLE = '{"index": 0, "type": "procedure", "text": "Go through it step by step."}'


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object, such as {_EXAMPLE}")
    return value


def _explain(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"not JSON ({error})"
    told = ((".".join(map(str, e["loc"])), e) for e in error.errors(include_url=False))
    return "; ".join(
        f"unknown field {name!r}" if e["type"] == "extra_forbidden" else f"{name!r}: {e['msg']}"
        for name, e in told
    )
