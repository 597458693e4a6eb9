"""Documents as tasks: text files, or a column of any other source. A document is its title, on the first line, and what follows."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from pipeline.config import Source
from pipeline.errors import DataError
from pipeline.registry import resolve
from stages.tasks.paths import find_files, lines, not_utf8, open_file
from stages.tasks.records import BadRow, RawRow, Repeat

OPTIONS = ("from", "column", "title", "max_words")
SUFFIXES = (".txt", ".md")


def documents(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    """Yield documents under the column that `columns.question` names; set `columns.answer: null`.

    Without options `path` is a folder, glob or file of .txt and .md. Options: `from` (another source, such as hf or jsonl) with
    `column` (default text) and `title` (a column that is put above the text); `max_words` cuts long documents between paragraphs
    into several, each under the title. What is passed to `from` beyond these is its own options.
    """
    most = source.options.get("max_words")
    if most is not None and (type(most) is not int or most < 1):
        raise DataError(f"source documents: options.max_words is {most!r}; expected a whole number of words.")
    for record in _column(source, seed) if "from" in source.options else _files(source):
        if not isinstance(record, RawRow):
            yield record
            continue
        pieces = split(record.values["text"], most) if most else [record.values["text"]]
        for i, piece in enumerate(pieces):
            where = record.where if len(pieces) == 1 else f"{record.where}#{i + 1}"
            yield RawRow(where, {**record.values, source.columns.question: piece})


def split(text: str, most: int) -> list[str]:
    """Return a document in pieces of at most `most` words where paragraphs allow it, each under the title, which is not counted."""
    title, _, body = text.strip().partition("\n")
    pieces: list[list[str]] = [[]]
    words = 0
    for paragraph in (p.strip() for p in body.split("\n\n") if p.strip()):
        size = len(paragraph.split())
        if pieces[-1] and words + size > most:
            pieces.append([])
            words = 0
        pieces[-1].append(paragraph)
        words += size
    return ["\n\n".join([title, *piece]) for piece in pieces]


def _files(source: Source) -> Iterator[RawRow | BadRow]:
    if unknown := sorted(set(source.options) - {"max_words"}):
        raise DataError(
            f"source documents: unknown options {', '.join(unknown)}; known: {', '.join(OPTIONS)} (column and title go with from)."
        )
    for path in find_files(source.path, "documents", SUFFIXES):
        with open_file(path) as file:
            read: list[str] = []
            problem = ""
            for line in lines(file):
                try:
                    read.append(line.data.decode("utf-8").rstrip("\r"))
                except UnicodeDecodeError as e:
                    problem = not_utf8(path, line, e)
                    break
        text = "\n".join(read).strip()
        name = PurePosixPath(path).name
        if problem or not text:
            yield BadRow(path, problem or "the document is empty", text)
        else:
            yield RawRow(
                path,
                {"text": text.removeprefix("#").lstrip() if name.endswith(".md") else text, "file": name},
            )


def _column(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    given: dict[str, Any] = source.options
    column, title = given.get("column", "text"), given.get("title")
    inner = source.model_copy(
        update={"source": given["from"], "options": {k: v for k, v in given.items() if k not in OPTIONS}}
    )
    for record in resolve("source", inner.source)(inner, seed):
        if not isinstance(record, RawRow):
            yield record
            continue
        wanted = [name for name in (title, column) if name is not None]
        missing = [
            name
            for name in wanted
            if not isinstance(record.values.get(name), str) or not record.values[name].strip()
        ]
        if missing:
            yield BadRow(
                record.where,
                f"no text in column {', '.join(map(repr, missing))}; there are: {', '.join(map(repr, record.values))}",
                repr(record.values),
            )
        else:
            yield RawRow(
                record.where,
                {**record.values, "text": "\n\n".join(record.values[name].strip() for name in wanted)},
            )
