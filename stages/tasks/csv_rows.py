"""CSV, record by record: a record may span lines, and one that cannot be read is one bad row."""

import csv
from collections.abc import Iterator

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks.paths import MAX_LINE, Line, not_utf8
from stages.tasks.records import RAW_CHARS, BadRow, RawRow, no_duplicates


def csv_rows(path: str, source_lines: Iterator[Line], source: Source) -> Iterator[RawRow | BadRow]:
    """Yield the records of one file; see `stages.tasks.files.csv` for the options. Raises DataError when the header cannot be used."""
    at = _CsvLines(path, source_lines)
    # The limit is one for the whole process; its default of 128 KiB is too small for a long document in a cell.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    delimiter = str(source.options.get("delimiter", "\t" if ".tsv" in path else ","))
    if len(delimiter) != 1:
        raise DataError(f"options.delimiter is {delimiter!r}: expected one character.")
    reader = csv.reader(at, delimiter=delimiter, strict=True)
    header: list[str] | None = source.options.get("header")
    if header is not None:
        if not (isinstance(header, list) and header and all(isinstance(name, str) for name in header)):
            raise DataError(
                f"options.header is {header!r}: expected the columns' names, such as [question, answer]."
            )
        no_duplicates("options.header", header)
    while True:
        at.begin()
        try:
            cells = next(reader, None)
            problem = at.problem
        except csv.Error as e:
            cells, problem = [""], at.problem or _csv_problem(str(e))
        if cells is None:
            return
        where = f"{path}:{at.first}"
        if header is None and (problem or at.raw.strip()):
            if problem:
                raise DataError(f"{where}: the header line cannot be read: {problem}")
            header = cells
            no_duplicates(where, header)
        elif problem:
            yield BadRow(where, problem, at.raw)
        elif at.raw.strip():  # blank lines are passed over
            yield _record(where, header or [], cells, at.raw)


def _record(where: str, header: list[str], cells: list[str], raw: str) -> RawRow | BadRow:
    if len(cells) != len(header):
        return BadRow(
            where,
            f"{len(cells)} cells, expected {len(header)}, one for each of {', '.join(map(repr, header))}",
            raw,
        )
    return RawRow(where, dict(zip(header, cells, strict=True)))


class _CsvLines:
    """Feeds text lines to csv.reader, and remembers for the record at hand where it began, its text and what was wrong with it."""

    def __init__(self, path: str, source_lines: Iterator[Line]) -> None:
        self.path, self.lines = path, source_lines
        self.begin()

    def begin(self) -> None:
        """Forget the last record."""
        self.first, self.raw, self.problem = 0, "", ""

    def __iter__(self) -> "_CsvLines":
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.first = self.first or line.number
        text = line.data.decode("utf-8", "backslashreplace")
        self.raw += text[: max(0, RAW_CHARS - len(self.raw))]
        if line.too_long:
            self.problem = f"line {line.number} has more than {MAX_LINE >> 20} MiB"
        try:
            line.data.decode("utf-8")
        except UnicodeDecodeError as e:
            self.problem = self.problem or not_utf8(self.path, line, e)
        return text + "\n"


def _csv_problem(message: str) -> str:
    if message == "unexpected end of data":
        return "a quote that is opened here is never closed, so that the rest of the file became one cell"
    return f"invalid CSV: {message}"
