"""Tasks that are read through a file on disk are those that lists of rows give."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import HeldOut, Source
from pipeline.errors import DataError
from pipeline.ids import unit_interval
from pipeline.rows import Row
from pipeline.store.spool import spooled
from stages.tasks import RawRow, read_tasks, split_held_out
from stages.tasks.content import to_row
from stages.tasks.split import same_question

ASKED = ["One?", "one? ", "Two?", "Three?", "  THREE?", ""]  # "" is a bad row
records = st.lists(
    st.fixed_dictionaries(
        {"question": st.sampled_from(ASKED), "answer": st.integers(0, 2)}, optional={"id": st.integers(0, 3)}
    ),
    min_size=1,
    max_size=25,
)


def write(folder: Path, records: list[dict[str, Any]], **more: Any) -> Source:
    (folder / "tasks.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return Source(source="jsonl", path=str(folder / "tasks.jsonl"), on_bad_row="skip", **more)


def in_lists(source: Source, records: list[dict[str, Any]]) -> tuple[list[Row], list[str], int, int]:
    """Return the rows, what is wrong with the others, and how many repeat one or have another answer."""
    rows: dict[str, Row] = {}
    bad, repeated, other = [], 0, 0
    for i, record in enumerate(records, 1):
        try:
            row = to_row(RawRow(f"{source.path}:{i}", record), source, demonstration=False)
        except ValueError as e:
            bad.append(f"{source.path}:{i} {e}")
            continue
        first = rows.setdefault(row.id, row)
        if first is row:
            continue
        if any(first.payload[key] != row.payload[key] for key in ("question", "answer")):
            where = first.payload["source"]["where"]
            bad.append(f"{source.path}:{i} duplicate id: the same as at {where}, of another task")
        else:
            repeated += 1
    first_answer: dict[tuple[str, ...], str] = {}
    for row in rows.values():
        other += first_answer.setdefault(same_question(row), row.payload["answer"]) != row.payload["answer"]
    return list(rows.values()), bad, repeated, other


@given(records, st.booleans())
def test_reading(tmp_path_factory: Any, given: list[dict[str, Any]], with_ids: bool) -> None:
    columns = {"columns": {"id": "id"}} if with_ids and any("id" in record for record in given) else {}
    source = write(tmp_path_factory.mktemp("read"), given, **columns)
    rows, bad, repeated, other = in_lists(source, given)
    try:
        found = read_tasks(source, 0)
    except DataError:
        assert not rows
        return
    assert list(found.rows) == rows and found.duplicates == repeated
    assert [f"{b.where} {b.problem}" for b in found.rejected] == bad
    assert all(
        json.dumps(given[int(b.where.rpartition(":")[2]) - 1]["answer"]) in b.raw for b in found.rejected
    )
    assert any("repeat" in note for note in found.notes) == (repeated > 0)
    assert sum(f"{other} question" in note for note in found.notes) == (other > 0)


@given(
    st.lists(st.tuples(st.sampled_from(ASKED), st.sampled_from([None, "train", "test", "dev"])), max_size=30),
    st.one_of(st.builds(HeldOut, count=st.integers(1, 9)), st.builds(HeldOut, share=st.floats(0.1, 0.9))),
    st.booleans(),
)
def test_splitting(given: list[tuple[str, str | None]], held_out: HeldOut, own: bool) -> None:
    rows = [
        Row(f"id-{i}", {"question": question} | ({"split": split} if own and split else {}))
        for i, (question, split) in enumerate(given)
    ]
    if any("split" in row.payload for row in rows):
        held = [row for row in rows if row.payload.get("split") == "test"]
        rest = [row for row in rows if row.payload.get("split") == "train"]
    else:
        place = {row.id: unit_interval(5, "held_out", row.id) for row in rows}
        smallest = sorted(place, key=lambda i: place[i])[: held_out.count]
        chosen = {
            i for i in place if (place[i] < held_out.share if held_out.count is None else i in smallest)
        }
        held, rest = [r for r in rows if r.id in chosen], [r for r in rows if r.id not in chosen]
    seen = {same_question(row) for row in held}
    train = [row for row in rest if same_question(row) not in seen]
    try:
        found = split_held_out(spooled((row, "") for row in rows), held_out, 5)
    except DataError:
        return
    assert [list(side) for side in found] == [train, held] and train and held
