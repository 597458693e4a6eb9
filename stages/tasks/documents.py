"""Documents as tasks, from text files or a column of another source. A document's first line is its title."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from pipeline.config import Source
from pipeline.errors import DataError
from pipeline.registry import resolve
from stages.steps import sentences, words
from stages.tasks.paths import COMPRESSED, find_files, lines, not_utf8, open_file
from stages.tasks.records import BadRow, RawRow, Repeat, with_value

OPTIONS = ("from", "column", "title", "max_words")
SUFFIXES = (".txt", ".md")
READERS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}  # whose column `text` has documents
TITLE_WORDS = 25  # a longer first line is a paragraph, not a title


def documents(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    """Yield documents under the column that `columns.question` names; set `columns.answer: null`.

    `path` is a folder, glob or file of .txt and .md, or of .jsonl and .parquet with a document in each row.
    With the option `from` it is read by another source (hf, csv, ...) instead. `column` (default text) holds
    the text, `title` names a column to put above it, and further options are that source's own. `max_words`
    splits long documents, each piece under the title.
    """
    most = source.options.get("max_words")
    if most is not None and (type(most) is not int or most < 1):
        raise DataError(f"source documents: options.max_words is {most!r}; expected a whole number of words.")
    for record in (
        _column(source, source.options["from"], seed) if "from" in source.options else _files(source, seed)
    ):
        if not isinstance(record, RawRow):
            yield record
            continue
        pieces = split(record.values["text"], most) if most else [record.values["text"]]
        for i, piece in enumerate(pieces):
            where = record.where if len(pieces) == 1 else f"{record.where}#{i + 1}"
            yield RawRow(where, with_value(record.values, source.columns.question, piece))


def split(text: str, most: int) -> list[str]:
    """Split a document into pieces of at most `most` words: between paragraphs, or if one of them is longer
    between sentences, or if one of those is longer between words.

    Each piece is under the title, which is not counted: the first line if it has at most TITLE_WORDS words.
    """
    title, _, body = text.strip().partition("\n")
    if not body.strip() or len(words.split(title)) > TITLE_WORDS:
        title, body = "", text
    pieces: list[str] = []
    room = 0
    for paragraph in (p.strip() for p in body.split("\n\n") if p.strip()):
        for i, part in enumerate(_parts(paragraph, most)):
            size = len(words.split(part))
            if not pieces or size > room:
                pieces.append(part)
                room = most
            else:
                pieces[-1] = pieces[-1] + part if i else f"{pieces[-1].rstrip()}\n\n{part}"
            room -= size
    return [f"{title}\n\n{piece.strip()}" if title else piece.strip() for piece in pieces]


def _parts(paragraph: str, most: int) -> Iterator[str]:
    """Yield a paragraph if it has at most `most` words, else its sentences, or pieces of those."""
    if len(words.split(paragraph)) <= most:
        yield paragraph
        return
    for sentence in sentences.split(paragraph):
        if len(words.split(sentence)) <= most:
            yield sentence
        else:
            yield from _runs(sentence, most)


def _runs(sentence: str, most: int) -> Iterator[str]:
    """Yield runs of `most` words of a sentence, with the white space after them."""
    run, count = "", 0
    for token in re.findall(r"\S+\s*|\s+", sentence):
        bare = token.rstrip()
        for part in [*words.pieces(bare), token[len(bare) :]]:
            size = len(words.split(part))
            if count + size > most:
                yield run
                run, count = "", 0
            run, count = run + part, count + size
    if run:
        yield run


def _files(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    if unknown := sorted(set(source.options) - set(OPTIONS)):
        known = ", ".join(OPTIONS)
        raise DataError(f"source documents: unknown options {', '.join(unknown)}; known: {known}.")
    for path in find_files(source.path, "documents", (*SUFFIXES, *READERS)):
        reader = next(
            (r for end, r in READERS.items() if path.endswith(tuple(end + c for c in COMPRESSED))), None
        )
        if reader:
            yield from _column(source.model_copy(update={"path": path}), reader, seed)
        else:
            yield _file(path)


def _file(path: str) -> RawRow | BadRow:
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
        return BadRow(path, problem or "the document is empty", text)
    name = PurePosixPath(path).name
    if name.endswith(".md"):
        text = text.removeprefix("#").lstrip()
    return RawRow(path, {"text": text, "file": name})


def _column(source: Source, reader: str, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    given = source.options
    wanted = [name for name in (given.get("title"), given.get("column", "text")) if name is not None]
    inner = {"source": reader, "options": {k: v for k, v in given.items() if k not in OPTIONS}}
    for record in resolve("source", reader)(source.model_copy(update=inner), seed):
        if not isinstance(record, RawRow):
            yield record
            continue
        values = record.values
        texts = [v.strip() if isinstance(v := values.get(name), str) else "" for name in wanted]
        if all(texts):
            yield RawRow(record.where, with_value(values, "text", "\n\n".join(texts)))
        else:
            blank = ", ".join(repr(name) for name, text in zip(wanted, texts, strict=True) if not text)
            problem = f"no text in column {blank}; there are: {', '.join(map(repr, values))}"
            yield BadRow(record.where, problem)
