"""Seed guidelines: general ways to think about a problem, which ReGenesis adapts to each question.

A file of guidelines is JSON lines with three fields: index (row ids are derived from it), type (a group;
"revision" marks those that presuppose an earlier solution) and text.
"""

import json

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import DataError
from stages.tasks.paths import find_files, lines, not_utf8, open_file

DEFAULT = "data/guidelines.jsonl"
REVISION = "revision"
_EXAMPLE = '{"index": 0, "type": "procedure", "text": "Go through it step by step."}'


class Guideline(BaseModel):
    """One seed guideline. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    type: str = Field(min_length=1)
    text: str = Field(min_length=1)


class _Line(Guideline):
    index: int = Field(ge=0, strict=True)


def read_guidelines(path: str) -> dict[int, Guideline]:
    """Return the guidelines of a file by index, sorted. Raises DataError with file and line."""
    guidelines: dict[int, Guideline] = {}
    first: dict[int | str, int] = {}  # index or text: its first line
    for file in find_files(path, "guidelines", (".jsonl",)):
        with open_file(file) as f:
            for line in lines(f):
                where = f"{file}:{line.number}"
                if not line.data.strip():
                    continue
                try:
                    read = _Line.model_validate(json.loads(line.data.decode("utf-8")))
                except UnicodeDecodeError as e:
                    raise DataError(f"{where}: {not_utf8(file, line, e)}") from None
                except (ValueError, RecursionError) as e:
                    raise DataError(f"{where}: {_explain(e)}; expected a line like {_EXAMPLE}") from None
                for what, value in (("index", read.index), ("text", read.text)):
                    if value in first:
                        raise DataError(
                            f"{where}: duplicate {what} {value!r:.80}, first in line {first[value]}."
                        )
                    first[value] = line.number
                guidelines[read.index] = Guideline(type=read.type, text=read.text)
    if not guidelines:
        raise DataError(f"{path}: no guidelines in it; expected lines like {_EXAMPLE}")
    return dict(sorted(guidelines.items()))


def _explain(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"not JSON ({error})"
    problems = []
    for e in error.errors(include_url=False):
        name = ".".join(map(str, e["loc"]))
        said = f"{name!r}: {e['msg']}" if name else "not an object"
        problems.append(f"unknown field {name!r}" if e["type"] == "extra_forbidden" else said)
    return "; ".join(problems)
