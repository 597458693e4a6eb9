"""Read CSV record by record. A record may span lines, and an unreadable one is one bad row."""

import csv
from collections.abc import Iterator

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks.paths import MAX_LINE, Line, not_utf8
from stages.tasks.records import RAW_CHARS, BadRow, RawRow, check_header


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
    delimiter, header = _options(path, source)
    reader = csv.reader(texts(), delimiter=delimiter, strict=True)
    while True:
        first, raw, problem = 0, "", ""
        try:
            cells = next(reader, None)
        except csv.Error as e:
            unclosed = "a quote opened here is never closed, so the rest of the file became one cell"
            text = unclosed if str(e) == "unexpected end of data" else f"invalid CSV: {e}"
            cells, problem = [], problem or text
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
            check_header(where, header)
        elif len(cells) != len(header):
            columns = ", ".join(map(repr, header))
            problem = f"{len(cells)} cells, expected {len(header)}, one for each of {columns}"
            yield BadRow(where, problem, raw)
        else:
            yield RawRow(where, dict(zip(header, cells, strict=True)))


def _options(path: str, source: Source) -> tuple[str, list[str] | None]:
    delimiter = str(source.options.get("delimiter", "\t" if ".tsv" in path else ","))
    if len(delimiter) != 1:
        raise DataError(f"options.delimiter is {delimiter!r}; expected one character.")
    header = source.options.get("header")
    if header is not None:
        if not (isinstance(header, list) and header and all(isinstance(name, str) for name in header)):
            expected = "expected column names, such as [question, answer]"
            raise DataError(f"options.header is {header!r}; {expected}.")
        check_header("options.header", header)
    return delimiter, header
