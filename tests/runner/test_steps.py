"""Steps over all rows of a stage: deterministic, restartable, and no row lost or given twice."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StageError
from pipeline.rows import Dropped, Row
from pipeline.runner.steps import run_steps
from pipeline.store import files, parts

ROWS = [Row(f"r{i}", {"n": i}) for i in range(10)]
Rows = Callable[[], Iterable[Row]]


def halve(rows: Rows) -> Iterator[tuple[Row, Dropped | None]]:
    for i, row in enumerate(rows()):
        yield row, Dropped("odd") if i % 2 else None


def annotate(rows: Rows) -> Iterator[tuple[Row, Dropped | None]]:
    for row in rows():
        yield Row(row.id, {**row.payload, "seen": True}, row.parents), None


def rows_in(folder: Path) -> list[Row]:
    return [row for path in files.glob(str(folder), "part-*.arrow") for row in parts.read_rows(path)]


def rejected(folder: Path) -> int:
    return sum(t.num_rows for t in parts.read_tables(f"{folder}/dropped"))


def test_one_after_the_other(tmp_path: Path) -> None:
    entries = run_steps({"halve": halve, "annotate": annotate, "again": halve}, lambda: ROWS, str(tmp_path))
    assert [(e.name, e.rows_in, e.rows_out) for e in entries] == [
        ("halve", 10, 5),
        ("annotate", 5, 5),
        ("again", 5, 3),
    ]
    assert [(r.id, r.payload["seen"]) for r in rows_in(tmp_path)] == [
        ("r0", True),
        ("r4", True),
        ("r8", True),
    ]
    assert rejected(tmp_path) == 7


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4])
def test_interrupted_anywhere_and_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    steps = {"halve": halve, "again": halve}
    write, written = files.write_bytes, []

    def stop(path: str, data: Any) -> None:
        if len(written) == at:
            raise KeyboardInterrupt
        written.append(path)
        write(path, data)

    monkeypatch.setattr(files, "write_bytes", stop)
    if at < 4:
        with pytest.raises(KeyboardInterrupt):
            run_steps(steps, lambda: ROWS, str(tmp_path))
    monkeypatch.undo()
    run_steps(steps, lambda: ROWS, str(tmp_path))
    assert [r.id for r in rows_in(tmp_path)] == ["r0", "r4", "r8"] and rejected(tmp_path) == 7


def loses(rows: Rows) -> Iterator[tuple[Row, Dropped | None]]:
    yield from ((row, None) for row in list(rows())[1:])


def repeats(rows: Rows) -> Iterator[tuple[Row, Dropped | None]]:
    """As many rows as there were, but one twice and one not at all."""
    found = list(rows())
    yield from ((row, None) for row in [found[0], *found[:-1]])


def renames(rows: Rows) -> Iterator[tuple[Row, Dropped | None]]:
    yield from ((Row(row.id + "x", row.payload), None) for row in rows())


@pytest.mark.parametrize("step", [loses, repeats, renames])
def test_a_step_that_does_not_conserve_rows_is_refused(tmp_path: Path, step: Any) -> None:
    with pytest.raises(StageError, match=f"step {step.__name__} lost rows"):
        run_steps({step.__name__: step}, lambda: ROWS, str(tmp_path))


def test_nothing_in(tmp_path: Path) -> None:
    (entry,) = run_steps({"halve": halve}, lambda: [], str(tmp_path))
    assert (entry.rows_in, entry.rows_out) == (0, 0)
