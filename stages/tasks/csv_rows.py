"""Read CSV record by record. A record may span lines, and an unreadable one is one bad row."""

import csv
from collections.abc import Iterator

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks.paths import MAX_LINE, Line, not_utf8
from stages.tasks.records import RAW_CHARS, BadRow, RawRow, check_header


def csv_rows(path: str, source_lines: Iterator[Line], source: Source) -> Iterator[RawRow | BadRow]:
    """Yield the records of one file, with the options of `stages.tasks.files.csv`.

    Raises DataError for an unusable header or option.
    """
    lines = _CsvLines(path, source_lines)
    # The limit is process-wide; its default of 128 KiB is too small for a long document in a cell.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    delimiter = str(source.options.get("delimiter", "\t" if ".tsv" in path else ","))
    if len(delimiter) != 1:
        raise DataError(f"options.delimiter is {delimiter!r}; expected one character.")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = source.options.get("header")
    if header is not None:
        if not (isinstance(header, list) and header and all(isinstance(name, str) for name in header)):
            raise DataError(
                f"options.header is {header!r}; expected column names, such as [question, answer]."
            )
        check_header("options.header", header)
    while True:
        lines.begin_record()
        try:
            cells = next(reader, None)
            problem = lines.problem
        except csv.Error as e:
            cells, problem = [""], lines.problem or _csv_problem(str(e))
        if cells is None:
            return
        where = f"{path}:{lines.first}"
        if header is not None and problem:
            yield BadRow(where, problem, lines.raw)
        elif problem:
            raise DataError(f"{where}: the header line is unreadable: {problem}")
        elif not lines.raw.strip():  # a blank line
            continue
        elif header is None:
            header = cells
            check_header(where, header)
        elif len(cells) != len(header):
            columns = ", ".join(map(repr, header))
            problem = f"{len(cells)} cells, expected {len(header)}, one for each of {columns}"
            yield BadRow(where, problem, lines.raw)
        else:
            yield RawRow(where, dict(zip(header, cells, strict=True)))


class _CsvLines:
    """Feeds text lines to csv.reader, and keeps the current record's first line number, text and problem."""

    def __init__(self, path: str, source_lines: Iterator[Line]) -> None:
        self.path, self.lines = path, source_lines
        self.begin_record()

    def begin_record(self) -> None:
        self.first, self.raw, self.problem = 0, "", ""

    def __iter__(self) -> "_CsvLines":
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.first = self.first or line.number
        text = line.data.decode("utf-8", "backslashreplace")
        self.raw += text[: max(0, RAW_CHARS - len(self.raw))]
        if line.too_long:
            self.problem = f"line {line.number} is longer than {MAX_LINE >> 20} MiB"
        try:
            line.data.decode("utf-8")
        except UnicodeDecodeError as e:
            self.problem = self.problem or not_utf8(self.path, line, e)
        return text + "\n"


def _csv_problem(message: str) -> str:
    if message == "unexpected end of data":
        return "a quote opened here is never closed, so the rest of the file became one cell"
    return f"invalid CSV: {message}"
