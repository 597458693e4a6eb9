"""What becomes of good rows: fields, ids, limits, sources of one's own."""

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Source
from pipeline.errors import ConfigError, DataError
from pipeline.rows import rows_to_table
from stages.tasks import BadRow, RawRow, Repeat, read_demonstrations, read_tasks


def write(path: Path, rows: list[dict]) -> Source:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Source(source="jsonl", path=str(path))


def numbered(n: int) -> list[dict]:
    return [{"question": f"{i}+1?", "answer": i + 1} for i in range(n)]


def test_payload(tmp_path: Path) -> None:
    source = write(
        tmp_path / "t.jsonl",
        [{"q": "Which?", "a": "B", "o": ["one", 2], "s": "Because.", "k": 7, "more": [1]}],
    )
    source.columns = source.columns.model_copy(
        update={"question": "q", "answer": "a", "options": "o", "solution": "s", "id": "k"}
    )
    source.answer_type = "choice"
    (row,) = read_tasks(source, 0).rows
    where = {"source": "jsonl", "path": source.path, "where": f"{source.path}:1", "id": "7"}
    assert row.payload == {
        "task_id": row.id,
        "question": "Which?",
        "answer": "B",
        "answer_type": "choice",
        "options": ["one", "2"],
        "solution": "Because.",
        "entry": None,
        "source": where,
    }
    assert rows_to_table([row]).num_rows == 1


@pytest.mark.parametrize("written", ["1.10", "-3", "1e5", "0.1000000000000000055511151231257827", "9" * 60])
def test_json_numbers_stay_as_they_are_written(tmp_path: Path, written: str) -> None:
    (tmp_path / "t.jsonl").write_text(f'{{"question": "?", "answer": {written}}}')
    (row,) = read_tasks(Source(source="jsonl", path=str(tmp_path)), 0).rows
    assert row.payload["answer"] == written
    assert type(row.payload["answer"]) is str


@pytest.mark.parametrize(
    ("value", "answer_type", "text"),
    [(True, "boolean", "true"), (False, "boolean", "false"), ("x", "text", "x")],
)
def test_other_answers(tmp_path: Path, value: object, answer_type: str, text: str) -> None:
    source = write(tmp_path / "t.jsonl", [{"question": "?", "answer": value}]).model_copy(
        update={"answer_type": answer_type}
    )
    assert read_tasks(source, 0).rows[0].payload["answer"] == text


def test_parquet_and_csv_hold_the_same_tasks_as_jsonl(tmp_path: Path) -> None:
    rows = numbered(5)
    expected = [row.id for row in read_tasks(write(tmp_path / "t.jsonl", rows), 0).rows]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_bytes(
        b"\xef\xbb\xbfquestion,answer\r\n" + b"".join(b"%d+1?,%d\r\n\r\n" % (i, i + 1) for i in range(5))
    )
    (tmp_path / "t.tsv").write_text("question\tanswer\n" + "".join(f'"{i}+1?"\t{i + 1}\n' for i in range(5)))
    for name, kind in (("t.parquet", "parquet"), ("t.csv", "csv"), ("t.tsv", "csv")):
        assert [
            row.id for row in read_tasks(Source(source=kind, path=str(tmp_path / name)), 0).rows
        ] == expected


def test_decimals_of_parquet_keep_their_zeros(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["?"], "answer": [Decimal("1.10")]}), tmp_path / "t.parquet")
    assert read_tasks(Source(source="parquet", path=str(tmp_path)), 0).rows[0].payload["answer"] == "1.10"


def test_a_record_of_csv_may_span_lines_and_hold_options(tmp_path: Path) -> None:
    (path := tmp_path / "t.csv").write_text(
        'question,answer,o\n"Which\nof these?",A,"[""x"", ""y""]"\nThat?,B,"[""x"", 1.50]"\n'
    )
    tasks = read_tasks(
        Source(source="csv", path=str(path), answer_type="choice", columns={"options": "o"}), 0
    )
    assert [row.payload["question"] for row in tasks.rows] == ["Which\nof these?", "That?"]
    assert [row.payload["options"] for row in tasks.rows] == [["x", "y"], ["x", "1.50"]]
    assert [row.payload["source"]["where"] for row in tasks.rows] == [f"{path}:2", f"{path}:4"]


@pytest.mark.parametrize("options", ["A or B", ["x"], ["x", "x"], {"A": "x"}, ["x", ["y"]], ["x", " "]])
def test_options_that_are_none(tmp_path: Path, options: object) -> None:
    source = write(tmp_path / "t.jsonl", [{"question": "?", "answer": "A", "o": options}])
    source = Source(**{**source.model_dump(), "answer_type": "choice", "columns": {"options": "o"}})
    with pytest.raises(DataError, match=r"t\.jsonl:1: .*option"):
        read_tasks(source, 0)


@given(order=st.randoms(use_true_random=False), split=st.integers(0, 20))
def test_ids_do_not_depend_on_order_or_file(
    tmp_path_factory: pytest.TempPathFactory, order: random.Random, split: int
) -> None:
    folder = tmp_path_factory.mktemp("shuffled")
    rows = numbered(20)
    expected = {row.id for row in read_tasks(write(folder / "all.jsonl", rows), 0).rows}
    order.shuffle(rows)
    write(folder / "b.part", rows[:split])
    write(folder / "a.part", rows[split:])
    tasks = read_tasks(Source(source="jsonl", path=f"{folder}/*.part"), 0)
    assert {row.id for row in tasks.rows} == expected
    assert len(tasks.rows) == 20


def test_ids_are_fixed_for_ever(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", [{"question": "1+1?", "answer": 2, "n": "x"}])
    assert read_tasks(source, 0).rows[0].id == "e6d52f057c71f1eb8620"
    source.columns.id = "n"
    assert read_tasks(source, 0).rows[0].id == "a15f5689e408ea6a8e5e"


def test_files_are_read_in_the_order_of_their_names_and_named_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for i in (2, 0, 1):
        write(tmp_path / "in" / f"{i}.jsonl", [{"question": f"{i}?", "answer": i}])
    for path in ("in", "in/*.jsonl"):
        tasks = read_tasks(Source(source="jsonl", path=path), 0)
        assert [row.payload["source"]["where"] for row in tasks.rows] == [
            "in/0.jsonl:1",
            "in/1.jsonl:1",
            "in/2.jsonl:1",
        ]
    odd = write(tmp_path / "in" / "a[1].jsonl", numbered(1))
    assert len(read_tasks(odd, 0).rows) == 1


@given(
    st.lists(
        st.sampled_from(
            ['{"question": "a", "answer": 1}', '{"question": "b", "answer": 2}', "{", "", "  ", "[]", "{}"]
        ),
        min_size=1,
    )
)
def test_conservation(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "conserved.jsonl"
    path.write_text("\n".join(['{"question": "c", "answer": 3}', *lines]))
    tasks = read_tasks(Source(source="jsonl", path=str(path), on_bad_row="skip"), 0)
    assert len(tasks.rows) + len(tasks.rejected) + tasks.duplicates == 1 + sum(
        bool(line.strip()) for line in lines
    )


def test_limit_counts_rows_read(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", numbered(9))
    with open(tmp_path / "t.jsonl", "a") as f:
        f.write("{")
    assert len(read_tasks(source.model_copy(update={"limit": 9}), 0).rows) == 9


def test_given_ids_that_are_not_unique(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", [{"n": 1, **row} for row in numbered(2)])
    source.columns.id = "n"
    with pytest.raises(DataError, match=r"t\.jsonl:2: duplicate id: the same as at .*t\.jsonl:1"):
        read_tasks(source, 0)


def test_demonstrations_have_an_answer_or_a_solution(tmp_path: Path) -> None:
    rows = [
        {"question": "?", "answer": None, "work": "So 4."},
        {"question": "?", "answer": 4, "work": None},
        {"question": "?", "answer": 4, "work": "2+2"},
    ]
    source = write(tmp_path / "d.jsonl", rows)
    source.columns.solution = "work"
    found = read_demonstrations(source, 0)
    assert [(row.payload["answer"], row.payload["solution"]) for row in found.rows] == [
        (None, "So 4."),
        ("4", None),
        ("4", "2+2"),
    ]
    source = write(tmp_path / "d.jsonl", [*rows, {"question": "none", "answer": None, "work": None}])
    source.columns.solution, source.columns.answer = "work", None
    with pytest.raises(
        DataError, match=r"d\.jsonl:2: a demonstration needs(?s:.*)demonstrations\.on_bad_row: skip"
    ):
        read_demonstrations(source, 0)


def test_without_ground_truth(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", [{"question": "?"}])
    with pytest.raises(DataError, match=r"set columns\.answer: null"):
        read_tasks(source, 0)
    source.columns.answer = None
    assert read_tasks(source, 0).rows[0].payload["answer"] is None


def own(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    yield RawRow("own[0]", {"question": f"{seed}?", "answer": Decimal("1.50")})
    yield Repeat("own[1]")
    yield RawRow("own[2]", {"question": "date?", "answer": 2.5, "entry": "not the gym's"})


def wrong(source: Source, seed: int) -> Iterator[dict]:
    yield {"question": "?"}


def test_a_source_of_ones_own() -> None:
    tasks = read_tasks(Source(source=f"{__name__}:own"), 5)
    assert [(row.payload["question"], row.payload["answer"], row.payload["entry"]) for row in tasks.rows] == [
        ("5?", "1.50", None),
        ("date?", "2.5", None),
    ]
    assert tasks.duplicates == 1
    orjson.dumps([row.payload for row in tasks.rows])
    with pytest.raises(DataError, match=r"yielded a dict; expected stages\.tasks\.RawRow"):
        read_tasks(Source(source=f"{__name__}:wrong"), 0)
    with pytest.raises(ConfigError, match="Did you mean 'jsonl'"):
        read_tasks(Source(source="jsonll"), 0)


def breaks(source: Source, seed: int) -> Iterator[RawRow]:
    yield RawRow("0", {"question": "1+1?", "answer": 2})
    raise KeyError("no such thing")


def test_a_source_that_raises_is_an_error_that_says_where() -> None:
    with pytest.raises(
        DataError,
        match=r"source tests\.stages\.tasks\.test_read:breaks, options {'a': 1}: KeyError: 'no such thing' "
        r"\(.*test_read.py:\d+\)",
    ):
        read_tasks(Source(source="tests.stages.tasks.test_read:breaks", options={"a": 1}), 0)
    with pytest.raises(DataError, match="source documents"):
        read_tasks(Source(source="documents", path="x", options={"from": 3}), 0)
