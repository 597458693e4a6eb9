"""Read CSV record by record. A record may span lines, and an unreadable one is one bad row."""

import csv
from collections.abc import Iterator
from typing import Any

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks.columns import top_level
from stages.tasks.paths import MAX_LINE, Line, not_utf8
from stages.tasks.records import RAW_CHARS, BadRow, RawRow, Unreadable, check_header


def csv_rows(path: str, lines: Iterator[Line], source: Source) -> Iterator[RawRow | BadRow]:
    """Yield the records of one file. Raises DataError for an unusable header or option, see files.csv."""
    first, raw, problem = 0, "", ""  # of the current record: its first line, its text, what is wrong with it

    def texts() -> Iterator[str]:
        nonlocal first, raw, problem
        for line in lines:
            first = first or line.number
            text = line.data.decode("utf-8", "backslashreplace")
            raw += text[: max(0, RAW_CHARS - len(raw))]
            if line.too_long:
                problem = f"line {line.number} is longer than {MAX_LINE >> 20} MiB"
            try:
                line.data.decode("utf-8")
            except UnicodeDecodeError as e:
                problem = problem or not_utf8(path, line, e)
            yield text + "\n"

    # The limit is process-wide; its default of 128 KiB is too small for a long document in a cell.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    dialect, header = _options(path, source)
    reader = csv.reader(texts(), **dialect)
    while True:
        first, raw, problem = 0, "", ""
        try:
            cells = next(reader, None)
        except csv.Error as e:
            cells, problem = [], problem or _explained(path, str(e))
        if cells is None:
            return
        where = f"{path}:{first}"
        if header is not None and problem:
            yield BadRow(where, problem, raw)
        elif problem:
            raise DataError(f"{where}: the header line is unreadable: {problem}")
        elif not raw.strip():  # a blank line
            continue
        elif header is None:
            header = cells
            check_header(where, header, top_level(source))
        elif len(cells) != len(header):
            columns = ", ".join(map(repr, header))
            problem = f"{len(cells)} cells, expected {len(header)}, one for each of {columns}"
            yield BadRow(where, problem, raw)
        else:
            values: dict[str, Any] = dict(zip(header, cells, strict=True))
            if len(values) < len(header):
                twins = {name for name in header if header.count(name) > 1}
                values |= dict.fromkeys(twins, Unreadable("there is more than one of that name"))
            yield RawRow(where, values)


def _explained(path: str, error: str) -> str:
    """Say what the error of the csv module means, and what to do."""
    if "new-line character" in error:
        return rf"lines that end in CR only; convert them: tr '\r' '\n' < {path} > lines.csv"
    unclosed = "a quote opened here is never closed, so the rest of the file became one cell"
    text = unclosed if error == "unexpected end of data" else f"invalid CSV: {error}"
    return f"{text}; if quotes are part of the text, set options.quote: none" if "NUL" not in error else text


def _options(path: str, source: Source) -> tuple[dict[str, Any], list[str] | None]:
    """Return the arguments of csv.reader, and the column names that the recipe gives."""
    delimiter = str(source.options.get("delimiter", "\t" if ".tsv" in path else ","))
    if len(delimiter) != 1:
        raise DataError(f"options.delimiter is {delimiter!r}; expected one character.")
    quote = source.options.get("quote", '"')
    if quote in ("none", None):
        dialect: dict[str, Any] = {"quoting": csv.QUOTE_NONE}
    elif isinstance(quote, str) and len(quote) == 1:
        dialect = {"quotechar": quote, "strict": True}
    else:
        raise DataError(f"options.quote is {quote!r}; expected one character, or none.")
    header = source.options.get("header")
    if header is not None:
        if not (isinstance(header, list) and header and all(isinstance(name, str) for name in header)):
            expected = "expected column names, such as [question, answer]"
            raise DataError(f"options.header is {header!r}; {expected}.")
        check_header("options.header", header, header)
    return {"delimiter": delimiter, **dialect}, header
