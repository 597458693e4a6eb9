"""Documents as tasks, from text files or a column of another source. A document's first line is its title."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from pipeline.config import Source
from pipeline.errors import DataError
from pipeline.registry import resolve
from stages.tasks.paths import find_files, lines, not_utf8, open_file
from stages.tasks.records import BadRow, RawRow, Repeat

OPTIONS = ("from", "column", "title", "max_words")
SUFFIXES = (".txt", ".md")


def documents(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    """Yield documents under the column that `columns.question` names; set `columns.answer: null`.

    `path` is a folder, glob or file of .txt and .md. With the option `from` it is read by another source
    (hf, jsonl, ...) instead: `column` (default text) holds the text, `title` names a column to put above
    it, and further options are that source's own. `max_words` splits long documents between paragraphs,
    each piece under the title.
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
    """Split a document into pieces of at most `most` words where paragraphs allow it.

    Each piece is under the title, which is not counted.
    """
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
        known = f"{', '.join(OPTIONS)} (column and title only with from)"
        raise DataError(f"source documents: unknown options {', '.join(unknown)}; known: {known}.")
    for path in find_files(source.path, "documents", SUFFIXES):
        texts: list[str] = []
        problem = ""
        with open_file(path) as file:
            for line in lines(file):
                try:
                    texts.append(line.data.decode("utf-8").rstrip("\r"))
                except UnicodeDecodeError as e:
                    problem = not_utf8(path, line, e)
                    break
        text = "\n".join(texts).strip()
        if problem or not text:
            yield BadRow(path, problem or "the document is empty", text)
            continue
        name = PurePosixPath(path).name
        if name.endswith(".md"):
            text = text.removeprefix("#").lstrip()
        yield RawRow(path, {"text": text, "file": name})


def _column(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    given = source.options
    wanted = [name for name in (given.get("title"), given.get("column", "text")) if name is not None]
    inner = {"source": given["from"], "options": {k: v for k, v in given.items() if k not in OPTIONS}}
    for record in resolve("source", given["from"])(source.model_copy(update=inner), seed):
        if not isinstance(record, RawRow):
            yield record
            continue
        values = record.values
        texts = [v.strip() if isinstance(v := values.get(name), str) else "" for name in wanted]
        if all(texts):
            yield RawRow(record.where, {**values, "text": "\n\n".join(texts)})
        else:
            blank = ", ".join(repr(name) for name, text in zip(wanted, texts, strict=True) if not text)
            problem = f"no text in column {blank}; there are: {', '.join(map(repr, values))}"
            yield BadRow(record.where, problem, repr(values))
