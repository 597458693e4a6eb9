"""Which rows parts account for, and how many, without their texts in memory."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import StageError
from pipeline.rows import Dropped, Failed, Kept, Row
from pipeline.store import parts
from pipeline.store.finished import FinishedRows, finished_in
from pipeline.store.parts import Counts, PartWriter

ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.lists(ids)), ids)
def test_a_set_of_ids(portions: list[list[str]], other: str) -> None:
    finished, every = FinishedRows(portions), {i for portion in portions for i in portion}
    assert all(i in finished for i in every) and (other in finished) == (other in every)
    assert bool(finished.twice()) == (len(every) < sum(map(len, portions)) == len(finished))


def write(folder: Path, writer: str, names: list[str]) -> None:
    out = PartWriter(str(folder), str(folder), writer)
    for i, name in enumerate(names):
        row = Row(name, {})
        out.add(row, (Kept([row]), Dropped("counts"), Failed('],"counts":'))[i % 3], Counts(sent=2))
    out.flush()


def test_counts_are_read_without_the_ids(tmp_path: Path) -> None:
    write(tmp_path, "00000", ["a", '],"counts":', '"],"counts":{', "counts", "d]", '\\"],\\"counts\\":'])
    write(tmp_path, "00001", [])
    write(tmp_path, "00002", ["b"])
    total = Counts()
    for part in parts.committed(str(tmp_path)):
        assert parts.counts_of(part.path) == part.counts
        total.add(part.counts)
    finished, counts = finished_in(str(tmp_path))
    assert parts.counted(str(tmp_path)) == counts == total and counts.rows_in == len(finished) == 7
    assert "b" in finished and "c" not in finished


def test_a_row_in_two_parts(tmp_path: Path) -> None:
    write(tmp_path, "00000", ["a", "b"])
    write(tmp_path, "00001", ["c", "b"])
    with pytest.raises(StageError, match=r"part-00001-00000.arrow: 1 of its rows, such as b"):
        finished_in(str(tmp_path))


def test_parts_grow_so_that_many_rows_are_few_files(tmp_path: Path) -> None:
    out, sizes = PartWriter(str(tmp_path), str(tmp_path), "00000"), []
    for _ in range(500):
        sizes.append(out.growth)
        out.take()
    assert sizes == sorted(sizes) and [sizes.count(n) for n in range(1, 5)] == [100, 100, 100, 200]
