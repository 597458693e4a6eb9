"""Guesses what a user's file of questions holds: its source, its columns, and the type of its answers."""

import json
import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline.config import Source
from pipeline.config.presets import PRESETS
from pipeline.errors import ConfigError
from pipeline.printable import one_line
from pipeline.registry import resolve
from pipeline.rows import Row
from stages.tasks.columns import is_there
from stages.tasks.content import to_row
from stages.tasks.paths import COMPRESSED, find_files, open_file
from stages.tasks.records import BadRow, RawRow, Unreadable, UnusableError, Written

ROWS = 200  # read to guess from
ENOUGH = 0.9  # of the rows must read as an answer type for it to be guessed
READERS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".json": "json",
}
# Usual names, the likeliest first.
NAMES = {
    "question": ("question", "prompt", "problem", "instruction", "query", "input", "task", "text", "q"),
    "answer": (
        "answer",
        "target",
        "gold",
        "expected",
        "label",
        "output",
        "response",
        "result",
        "solution",
        "a",
    ),
    "options": ("options", "choices", "candidates", "alternatives"),
    "id": ("id", "uid", "uuid", "qid", "key", "index", "idx"),
}
TRUTHS = {"yes", "no", "true", "false"}


class Guess(NamedTuple):
    """What `tasks` of a recipe should be: its source, columns and answer type, and why, by field.

    With a `preset` the columns and the answer type are those that it sets.
    """

    source: dict[str, Any]  # source, path, options, preset, answer_is
    columns: dict[str, str | None]
    answer_type: str
    why: dict[str, str]
    usable: int  # of `rows` rows, and whether those are all there are
    rows: int
    complete: bool
    longest: int  # characters of the longest question


def guess(
    tasks: str,
    named: Mapping[str, str | None],
    answer_type: str | None,
    hub: dict[str, str],
    answer_is: str | None = None,
) -> Guess:
    """Read the first rows of `tasks` (a path, glob, folder or Hub dataset) and guess the rest.

    `named` has the columns the user named (answer None: there are no answers), `hub` a Hub dataset's options.
    Where the user names nothing, the layouts of public data sets are recognised. Raises DataError when
    nothing can be read, ConfigError with a list of the columns when a guess fails.
    """
    source = _source(tasks, hub)
    as_published = not named and answer_type is None and answer_is is None
    if as_published and (preset := next((n for n, p in PRESETS.items() if tasks in p.hub), None)):
        source = {**source, "preset": preset}
    if hub and source["source"] != "hf":
        raise ConfigError(f"{tasks}: --config and --split are for datasets of the Hub; this is a file")
    records, complete = _read(source)
    rows = [r for r in records if isinstance(r, RawRow)]
    if not rows:
        problem = next((f" {r.where}: {r.problem}" for r in records if isinstance(r, BadRow)), "")
        raise ConfigError(f"{tasks}: no row can be read.{problem}")
    if as_published and (preset := source.get("preset") or _recognized(source, rows)):
        return _as_published({**source, "preset": preset}, rows, len(records), complete)
    if answer_is:
        source = {**source, "answer_is": answer_is}
    columns, why = _columns(tasks, rows, named)
    if columns["answer"] is None:
        answer_type = answer_type or "text"
    elif answer_type:
        why["answer_type"] = "as given"
    else:
        answer_type, why["answer_type"] = _answer_type(source, columns, rows)
    settings = {**source, "columns": columns, "answer_type": answer_type}
    made = [_use(settings, row) for row in rows]
    tasks_made = [row for row in made if isinstance(row, Row)]
    if len(tasks_made) < ENOUGH * len(rows):
        where, problem = next((row.where, m) for row, m in zip(rows, made, strict=True) if isinstance(m, str))
        raise ConfigError(
            f"{tasks}: {len(rows) - len(tasks_made)} of {len(rows)} rows cannot be used with columns "
            f"{yaml_text(columns)} and answer_type {answer_type}; the first is {where}: {problem}\n"
            f"Name other columns or another --answer-type. {_listing(rows)}"
        )
    return Guess(
        source, columns, answer_type, why, len(tasks_made), len(records), complete, _longest(tasks_made)
    )


def _recognized(source: dict[str, Any], rows: list[RawRow]) -> str | None:
    """Return the preset whose columns are there, and with which nearly all rows can be used."""
    there = {name for row in rows for name in row.values}
    for name, preset in PRESETS.items():
        if not preset.columns_there <= there or (preset.columns["answer"] is None and "answer" in there):
            continue
        usable = sum(isinstance(_use({**source, "preset": name}, row), Row) for row in rows)
        if usable >= ENOUGH * len(rows):
            return name
    return None


def _as_published(source: dict[str, Any], rows: list[RawRow], count: int, complete: bool) -> Guess:
    made = [row for row in (_use(source, row) for row in rows) if isinstance(row, Row)]
    if not made:
        raise ConfigError(f"{source['path']}: no row has the layout {source['preset']}. {_listing(rows)}")
    settings = Source.model_validate(source)
    columns = settings.columns.model_dump()
    why = {"preset": f"the columns are those of {source['preset']} as it is published"}
    return Guess(source, columns, settings.answer_type, why, len(made), count, complete, _longest(made))


def _longest(rows: list[Row]) -> int:
    return max(len(row.payload["question"]) for row in rows)


def _source(tasks: str, hub: dict[str, str]) -> dict[str, Any]:
    """Return the `source`, `path` and `options` that read `tasks`."""
    if os.path.isdir(tasks) and not {"state.json", "dataset_dict.json"} & set(os.listdir(tasks)):
        kinds = [kind for name in sorted(os.listdir(tasks)) if (kind := _reader(name)) not in (None, "json")]
        return {"source": kinds[0] if kinds else "hf", "path": tasks, "options": hub}
    if os.path.isdir(tasks) or (tasks.count("/") == 1 and not _reader(tasks) and not Path(tasks).exists()):
        return {"source": "hf", "path": tasks, "options": hub}
    kind = _reader(tasks)
    first = find_files(tasks, kind or "jsonl", tuple(READERS))[0]  # raises with the nearest name
    if kind is None:
        raise ConfigError(f"{tasks}: expected a file that ends in {', '.join(READERS)} (also compressed)")
    if kind != "json":
        return {"source": kind, "path": tasks, "options": {}}
    with open_file(first) as f:
        is_list = f.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    if is_list:  # one JSON value; the jsonl source reads an object per line
        return {"source": "hf", "path": tasks, "options": {}}
    return {"source": "jsonl", "path": tasks, "options": {}}


def _reader(name: str) -> str | None:
    for ending, kind in READERS.items():
        if name.endswith(tuple(ending + c for c in COMPRESSED)):
            return kind
    return None


def _read(source: dict[str, Any]) -> tuple[list[Any], bool]:
    """Return the first records, and whether those are all. Sets options.delimiter of a CSV if needed."""
    records = list(islice(resolve("source", source["source"])(Source(**source), 0), ROWS + 1))
    header = next((list(r.values) for r in records if isinstance(r, RawRow)), [])
    if source["source"] == "csv" and len(header) == 1 and not source["options"]:
        for delimiter in (";", "\t", "|"):
            if delimiter in header[0]:
                source["options"] = {"delimiter": delimiter}
                return _read(source)
    return records[:ROWS], len(records) <= ROWS


def _columns(
    tasks: str, rows: list[RawRow], named: Mapping[str, str | None]
) -> tuple[dict[str, str | None], dict[str, str]]:
    there = list(dict.fromkeys(name for row in rows for name in row.values))
    if unknown := [name for name in named.values() if name and not is_there(name, dict.fromkeys(there))]:
        raise ConfigError(f"{tasks}: no column {unknown[0]!r}. {_listing(rows)}")
    columns: dict[str, str | None] = dict(named)
    why = {field: "as given" for field, name in named.items() if name is not None}
    for field in NAMES:
        if field in named:
            continue
        if name := _by_name(field, [n for n in there if n not in columns.values()], rows):
            columns[field] = name
            why[field] = "by its name"
    for field, otherwise in (("question", ""), ("answer", ", or --no-answers if there are none")):
        if field not in columns:
            raise ConfigError(
                f"{tasks}: which column holds the {field}? Name it with "
                f"--{field} COLUMN{otherwise}. {_listing(rows)}"
            )
    for field in why:
        why[field] += f"; such as {_example(rows, str(columns[field]))}"
    return {field: columns[field] for field in NAMES if field in columns}, why


def _by_name(field: str, there: list[str], rows: list[RawRow]) -> str | None:
    """Return the column whose name is, or else contains, the likeliest usual name, and whose values fit."""
    words = {name: name.casefold().replace("-", "_").replace(" ", "_").split("_") for name in there}
    for usual in NAMES[field]:
        exact = [name for name in there if "".join(words[name]) == usual]
        for name in (*exact, *(name for name in there if usual in words[name])):
            if _fits(field, [row.values.get(name) for row in rows], name in exact):
                return name
    return None


def _fits(field: str, values: list[Any], exact: bool) -> bool:
    if field == "options":
        nested = (list, dict)
        return all(
            isinstance(v, nested) or (isinstance(v, str) and v.lstrip()[:1] in ("[", "{")) for v in values
        )
    if any(isinstance(v, list | dict) for v in values):
        return False
    if field == "id":
        return None not in values and len({str(v) for v in values}) == len(values)
    return field != "question" or exact or any(" " in str(v).strip() for v in values)


def _answer_type(
    source: dict[str, Any], columns: dict[str, str | None], rows: list[RawRow]
) -> tuple[str, str]:
    if "options" in columns:
        return "choice", "because there are options"
    answers = [str(row.values.get(str(columns["answer"]), "")).strip() for row in rows]
    if {a.casefold() for a in answers} <= TRUTHS:
        return "boolean", "all answers are yes, no, true or false"
    if all(a.endswith("%") for a in answers):
        return "percentage", "all answers end in %"
    as_number = {**source, "columns": columns, "answer_type": "number"}
    numbers = sum(isinstance(_use(as_number, row), Row) for row in rows)
    if numbers >= ENOUGH * len(rows):
        return (
            "number",
            f"{'all' if numbers == len(rows) else f'{numbers} of'} {len(rows)} answers are numbers",
        )
    if sum("\\" in a or "^" in a for a in answers) * 2 > len(rows) - numbers:
        return "math", "answers have LaTeX in them"
    if sum(map(len, answers)) > 100 * len(answers):
        return "text", "but they are long: whole texts rarely match, so consider a verifier of your own"
    return "text", f"{numbers} of {len(rows)} answers are numbers"


def _use(settings: dict[str, Any], row: RawRow) -> Row | str:
    """Return the task a row becomes, or why it cannot be used."""
    try:
        return to_row(row, Source.model_validate(settings), demonstration=False)
    except UnusableError as e:
        return str(e)


def _listing(rows: list[RawRow]) -> str:
    there = dict.fromkeys(name for row in rows for name in row.values)
    return "Its columns, with an example each:\n" + "\n".join(
        f"  {name}: {_example(rows, name)}" for name in there
    )


def _example(rows: list[RawRow], name: str) -> str:
    value = next((row.values[name] for row in rows if row.values.get(name) not in (None, "", [])), None)
    if isinstance(value, Unreadable):
        return f"({value.problem})"
    text = str(value) if isinstance(value, Written) else json.dumps(value, ensure_ascii=False, default=str)
    return one_line(text, 70)


def yaml_text(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
