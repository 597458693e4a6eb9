"""Rows of Arrow tables, whose values are converted when they are asked for."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from stages.tasks.records import Unreadable

Convert = Callable[[str, Any], Any]


class ArrowRow(Mapping[str, Any]):
    """One row of a table by column name. A value that Python cannot hold is Unreadable.

    Columns that nobody asks for cost nothing and break nothing: dates out of range, decimals, images.
    """

    __slots__ = ("_at", "_columns", "_convert")

    def __init__(self, columns: Mapping[str, Any], at: int, convert: Convert | None = None) -> None:
        self._columns, self._at, self._convert = columns, at, convert

    def __getitem__(self, name: str) -> Any:
        column = self._columns[name]
        if isinstance(column, Unreadable):
            return column
        try:
            value = column[self._at].as_py(maps_as_pydicts="lossy")
        except Exception as e:  # of Arrow, of datetime, of a package of time zones
            return Unreadable(f"{type(e).__name__}: {e}")
        return self._convert(name, value) if self._convert else value

    def __contains__(self, name: object) -> bool:
        return name in self._columns  # Mapping's own would convert the value

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def rows_of(table: pa.Table | pa.RecordBatch, convert: Convert | None = None) -> Iterator[ArrowRow]:
    """Yield the rows of a table. Of columns with the same name none can be read."""
    names = table.schema.names
    columns = {name: table.column(i) for i, name in enumerate(names)}
    if len(columns) < len(names):
        twins = {name for name in names if names.count(name) > 1}
        columns |= dict.fromkeys(twins, Unreadable("there is more than one of that name"))
    return (ArrowRow(columns, at, convert) for at in range(table.num_rows))
