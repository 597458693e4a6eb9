"""Rows on disk are the rows of a list, whatever is asked of them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows import Row
from pipeline.store import spool
from pipeline.store.spool import Rows, spooled


@given(st.integers(0, 40), st.integers(1, 9), st.randoms(use_true_random=False))
def test_rows_on_disk_are_those_of_a_list(count: int, batch: int, rng) -> None:
    rows = [Row(f"id-{i}", {"i": i, "text": "é" * (i % 3)}, ["p"] * (i % 2)) for i in range(count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "BATCH", batch)
        found: Rows = spooled((row, f"note {row.id}") for row in rows)
        for _ in range(3):
            assert list(found) == rows and len(found) == len(rows) and list(found) == rows
            assert found.ids().to_pylist() == [row.id for row in rows]
            assert [found[i] for i in range(len(rows))] == rows and list(found[1:]) == rows[1:]
            assert [found.note(i) for i in range(len(rows))] == [f"note {row.id}" for row in rows]
            rows = [row for row in rows if rng.random() < 0.7]
            found = found.where(rows.__contains__)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = spooled((Row(str(i), {}), "") for i in range(5))
    assert not list(tmp_path.iterdir()) and len(list(rows)) == 5
    with pytest.raises(ZeroDivisionError):
        spooled((Row(str(1 // i), {}), "") for i in (1, 0))
    assert not list(tmp_path.iterdir()) and list(Rows()) == list(Rows().ids()) == []
