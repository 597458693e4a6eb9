"""Every way an input file can be wrong: the message names the place, what was expected and what to do."""

import bz2
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks import paths, read_tasks

GOOD = b'{"question": "1+1?", "answer": 2}\n'
ALSO = b'{"question": "2+2?", "answer": 4}\n'


def source(path: Path | str, kind: str = "jsonl", **more) -> Source:
    return Source(source=kind, path=str(path), **more)


def refuse(path: Path | str, kind: str = "jsonl", **more) -> str:
    with pytest.raises(DataError) as caught:
        read_tasks(source(path, kind, **more), 0)
    return str(caught.value)


LINES = {
    "torn last line": (b'{"question": "3+3?", "ans', 2, "no line end"),
    "invalid JSON in the middle": (b'{"question" "3+3?"}\n' + ALSO, 2, "invalid JSON at column 13"),
    "a list": (b'["3+3?", 6]\n', 2, "expected a JSON object with named columns, got a list"),
    "a bare number": (b"\n\n17\n", 4, "got the number 17"),
    "latin-1": (
        '{"question": "caf\u00e9?", "answer": 6}\n'.encode("latin-1"),
        2,
        "not UTF-8: byte 0xe9 at offset 51 of the file",
    ),
    "raw NUL byte": (b'{"question": "a\0b", "answer": 6}\n', 2, "Invalid control character"),
    "escaped NUL": (b'{"question": "a\\u0000b", "answer": 6}\n', 2, "NUL character at position 2"),
    "half a surrogate pair": (b'{"question": "a\\ud800b", "answer": 6}\n', 2, "surrogate pair at position 2"),
    "a key twice": (b'{"question": "3+3?", "question": "x", "answer": 6}\n', 2, "'question' occurs twice"),
    "NaN": (b'{"question": "3+3?", "answer": NaN}\n', 2, "NaN is not JSON"),
    "nested too deeply": (b"[" * 100_000 + b"\n", 2, "nested too deeply"),
    "a missing column": (
        b'{"quesiton": "3+3?", "answer": 6}\n',
        2,
        "Did you mean columns.question: 'quesiton'?",
    ),
    "question is an object": (
        b'{"question": {"text": "3+3?"}, "answer": 6}\n',
        2,
        "'question') is an object; expected a text",
    ),
    "question is null": (b'{"question": null, "answer": 6}\n', 2, "is null; expected a text"),
    "question is empty": (b'{"question": "  ", "answer": 6}\n', 2, "is empty"),
    "question is a number": (b'{"question": 7, "answer": 6}\n', 2, "is the number 7"),
    "answer is nested": (b'{"question": "3+3?", "answer": [[6]]}\n', 2, "the answer is a list"),
    "no answer in a list": (b'{"question": "3+3?", "answer": []}\n', 2, "the answer is an empty list"),
    "answer is null": (b'{"question": "3+3?", "answer": null}\n', 2, "the answer is null"),
    "answer is of another type": (b'{"question": "3+3?", "answer": "six"}\n', 2, "'six' is not a number"),
}


@pytest.mark.parametrize(("text", "line", "problem"), LINES.values(), ids=LINES)
def test_a_bad_line_is_named_and_can_be_skipped(tmp_path: Path, text: bytes, line: int, problem: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(GOOD + text)
    message = refuse(path)
    assert f"{path}:{line}: " in message
    assert problem in message
    assert "1 of " in message
    assert "tasks.on_bad_row: skip" in message
    tasks = read_tasks(source(path, on_bad_row="skip"), 0)
    assert [bad.where for bad in tasks.rejected] == [f"{path}:{line}"]
    assert problem in tasks.rejected[0].problem
    assert tasks.rows[0].payload["answer"] == "2"


def test_only_three_bad_rows_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    (path := tmp_path / "tasks.jsonl").write_bytes(GOOD + b"{\n" * 9)
    message = refuse(path)
    assert "9 of 10 rows" in message
    assert message.count("invalid JSON") == 3
    assert "... and 6 more" in message


def test_all_rows_bad_is_an_error_whatever_the_recipe_says(tmp_path: Path) -> None:
    (path := tmp_path / "tasks.jsonl").write_bytes(b"{\n" * 2)
    assert "No usable row is left." in refuse(path, on_bad_row="skip")


def test_a_column_that_no_row_has_cannot_be_skipped(tmp_path: Path) -> None:
    (path := tmp_path / "tasks.jsonl").write_bytes(b'{"prompt": "1+1?", "answers": 2}\n' * 2)
    message = refuse(path, columns={"question": "prompt"}, on_bad_row="skip")
    assert (
        "no column 'answer' for the answer; there are: 'prompt', 'answers'. "
        "Did you mean columns.answer: 'answers'?" in message
    )


def test_a_byte_order_mark_is_no_part_of_the_text_but_of_the_offset(tmp_path: Path) -> None:
    (path := tmp_path / "tasks.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD)
    assert len(read_tasks(source(path), 0).rows) == 1
    path.write_bytes(b"\xef\xbb\xbf\xff\n" + GOOD)
    assert "byte 0xff at offset 3 of the file (byte 1 of the line)" in refuse(path)


def test_utf16_is_recognised(tmp_path: Path) -> None:
    (path := tmp_path / "tasks.jsonl").write_text('{"question": "1+1?", "answer": 2}\n', encoding="utf-16")
    assert "iconv -f UTF-16" in refuse(path)


@pytest.mark.parametrize("text", [b"", b"\n \n\n"], ids=["empty", "only blank lines"])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_nothing_in_the_file(tmp_path: Path, text: bytes, kind: str) -> None:
    (path := tmp_path / f"tasks.{kind}").write_bytes(text)
    message = refuse(path, kind)
    assert str(path) in message
    assert "contains no row" in message


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_bytes(GOOD)
    assert "no such file or folder. Did you mean 'tasks.jsonl'?" in refuse(tmp_path / "task.jsonl")
    assert "In " in refuse(tmp_path / "zzz") and "'tasks.jsonl'" in refuse(tmp_path / "zzz")
    assert "does not exist either" in refuse(tmp_path / "nowhere" / "tasks.jsonl")
    assert "no file matches this pattern" in refuse(tmp_path / "*.json")
    assert "no file in this folder ends in .csv" in refuse(tmp_path, "csv")
    assert "needs a path" in refuse("")
    assert "cannot be read: Protocol not known" in refuse("nosuch://bucket/tasks.jsonl")


def test_rows_that_repeat_another_are_left_out_and_told(tmp_path: Path) -> None:
    (path := tmp_path / "tasks.jsonl").write_bytes(GOOD + ALSO + GOOD * 3)
    tasks = read_tasks(source(path), 0)
    assert len(tasks.rows) == 2 and tasks.duplicates == 3 and not tasks.rejected
    assert (
        f"3 rows repeat earlier ones and are left out, such as {path}:3, which is the same as {path}:1"
        in (tasks.notes[0])
    )


def test_questions_with_another_answer_elsewhere_are_told(tmp_path: Path) -> None:
    rows = [b'{"question": "1 + 1?", "answer": "2.0"}\n', b'{"question": " 2+2? ", "answer": 5}\n']
    (path := tmp_path / "tasks.jsonl").write_bytes(GOOD + ALSO + b"".join(rows))
    [note] = read_tasks(source(path), 0).notes
    assert f"1 question has another answer elsewhere, such as '4' at {path}:2 and '5' at {path}:4" in note


def test_one_json_array_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    for text in (b"[" + GOOD + b"," + ALSO + b"]", b"\n[\n" + GOOD + b"]", b"[" + GOOD.strip() + b"]"):
        path.write_bytes(text)
        message = refuse(path)
        assert message.startswith(f"{path}: one JSON array") and "source: hf" in message
    path.rename(tmp_path / "tasks.json")
    assert len(read_tasks(source(tmp_path / "tasks.json", "hf"), 0).rows) == 1


def test_lines_that_end_in_carriage_returns_are_named(tmp_path: Path) -> None:
    (path := tmp_path / "tasks.jsonl").write_bytes((GOOD + ALSO).replace(b"\n", b"\r"))
    assert "lines that end in CR only? Convert them: tr" in refuse(path)
    (path := tmp_path / "tasks.csv").write_bytes(b"question,answer\r1+1?,2\r")
    assert "lines that end in CR only; convert them: tr" in refuse(path, "csv")


UNUSED = [
    b'"x": NaN',
    b'"x": [Infinity, {"y": -Infinity}]',
    b'"x": 1, "x": 2',
    b'"x": {"y": 1, "y": 2}',
    b'"x": ' + b"9" * 5000,
    b'"x": 1e999',
    b'"x": "a\\u0000b\\ud800"',
]


@pytest.mark.parametrize("unused", UNUSED)
def test_columns_that_nobody_asks_for_break_nothing(tmp_path: Path, unused: bytes) -> None:
    (path := tmp_path / "tasks.jsonl").write_bytes(b"{" + unused + b", " + GOOD[1:])
    assert len(read_tasks(source(path), 0).rows) == 1
    bad = read_tasks(source(path, on_bad_row="skip", limit=1), 0)
    assert not bad.rejected


def test_columns_of_parquet_that_nobody_asks_for_break_nothing(tmp_path: Path) -> None:
    columns = {
        "question": ["1+1?"],
        "answer": [2],
        "nan": [float("nan")],
        "early": pa.array([-(2**62)], pa.timestamp("us")),
        "nowhere": pa.array([0], pa.timestamp("us", tz="Not/AZone")),
        "long": pa.array([2**62], pa.duration("s")),
        "image": [{"bytes": b"\xff", "path": None}],
    }
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "tasks.parquet", store_schema=True)
    for kind in ("parquet", "hf"):
        assert len(read_tasks(source(tmp_path / "tasks.parquet", kind), 0).rows) == 1
    for name in ("early", "nowhere"):
        message = refuse(tmp_path / "tasks.parquet", "parquet", columns={"question": name})
        assert f"column {name!r} cannot be used: " in message
    twins = pa.table([["1+1?"], ["2"], ["x"], ["y"]], names=["question", "answer", "x", "x"])
    pq.write_table(twins, tmp_path / "twins.parquet")
    assert len(read_tasks(source(tmp_path / "twins.parquet", "parquet"), 0).rows) == 1


def test_options_that_are_not_known(tmp_path: Path) -> None:
    assert "unknown options sep; known: delimiter, header, quote" in refuse(
        tmp_path, "csv", options={"sep": ";"}
    )
    assert "known: none" in refuse(tmp_path, "jsonl", options={"lines": True})


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("paths", "files"):
        monkeypatch.setattr(f"stages.tasks.{module}.MAX_LINE", 2**20)
    (path := tmp_path / "tasks.jsonl").write_bytes(GOOD + b"x" * (3 * 2**20) + b"\n" + ALSO)
    tasks = read_tasks(source(path, on_bad_row="skip"), 0)
    assert [bad.problem for bad in tasks.rejected] == [
        "a line longer than 1 MiB; expected one JSON object per line"
    ]
    assert len(tasks.rejected[0].raw) <= 2000
    assert [row.payload["source"]["where"] for row in tasks.rows] == [f"{path}:1", f"{path}:3"]
    with paths.open_file(str(path)) as f:
        assert [line.offset for line in paths.lines(f)] == [0, len(GOOD), len(GOOD) + 3 * 2**20 + 1]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress], ids=["gz", "bz2"])
def test_compressed_files_and_damaged_ones(tmp_path: Path, pack) -> None:
    (path := tmp_path / f"tasks.jsonl.{'gz' if pack is gzip.compress else 'bz2'}").write_bytes(
        pack(GOOD + ALSO)
    )
    assert len(read_tasks(source(tmp_path), 0).rows) == 2
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path}: cannot be read to its end" in refuse(path)
    path.write_bytes(GOOD)
    assert f"{path}: cannot be read to its end" in refuse(path)


CSV = {
    "too few cells": (b"3+3?\n", 3, "1 cells, expected 2, one for each of 'question', 'answer'"),
    "too many cells": (b"3+3?,6,7\n", 3, "3 cells, expected 2"),
    "text after a quote": (b'"3+3?"x,6\n', 3, "invalid CSV"),
    "an open quote": (b'"3+3?,6\n4+4?,8\n', 3, "never closed"),
    "latin-1": ("caf\u00e9?,6\n".encode("latin-1"), 3, "not UTF-8: byte 0xe9 at offset 26"),
    "NUL": (b"3\0+3?,6\n", 3, "NUL"),
    "empty answer": (b"3+3?,\n", 3, "the answer is empty"),
}


@pytest.mark.parametrize(("text", "line", "problem"), CSV.values(), ids=CSV)
def test_a_bad_record_of_csv(tmp_path: Path, text: bytes, line: int, problem: str) -> None:
    (path := tmp_path / "tasks.csv").write_bytes(b"question,answer\n1+1?,2\n" + text)
    message = refuse(path, "csv")
    assert f"{path}:{line}: " in message
    assert problem in message
    assert len(read_tasks(source(path, "csv", on_bad_row="skip"), 0).rows) == 1


def test_csv_headers(tmp_path: Path) -> None:
    (path := tmp_path / "tasks.csv").write_bytes(b"1+1?,2\n2+2?,4\n")
    assert "no column 'question' for the question; there are: '1+1?', '2'" in refuse(path, "csv")
    assert len(read_tasks(source(path, "csv", options={"header": ["question", "answer"]}), 0).rows) == 2
    assert "'answer' occurs more than once" in refuse(
        path, "csv", options={"header": ["question", "answer", "answer"]}
    )
    for header in ([1, 2], "question,answer", []):
        assert "expected column names, such as [question, answer]" in refuse(
            path, "csv", options={"header": header}
        )
    path.write_bytes(b"question,answer,answer\n1+1?,2,2\n")
    assert f"{path}:1: the column 'answer' occurs more than once" in refuse(path, "csv")
    path.write_bytes(b"question,\xff\n")
    assert f"{path}:1: the header line is unreadable: not UTF-8" in refuse(path, "csv")
    assert "expected one character" in refuse(path, "csv", options={"delimiter": "::"})


def test_quotes_that_are_part_of_the_text(tmp_path: Path) -> None:
    (path := tmp_path / "tasks.tsv").write_bytes(b'question\tanswer\n"Two" and 2?\t4\n5" and 6"?\t11\n')
    assert "if quotes are part of the text, set options.quote: none" in refuse(path, "csv")
    tasks = read_tasks(source(path, "csv", options={"quote": "none"}), 0)
    assert [row.payload["question"] for row in tasks.rows] == ['"Two" and 2?', '5" and 6"?']
    path.write_bytes(b"question\tanswer\n'1\t1?'\t2\n")
    assert len(read_tasks(source(path, "csv", options={"quote": "'"}), 0).rows) == 1
    assert "expected one character, or none" in refuse(path, "csv", options={"quote": "''"})


def test_another_delimiter_is_named(tmp_path: Path) -> None:
    for delimiter in (";", "|", "\t"):
        (path := tmp_path / "tasks.csv").write_text(f"question{delimiter}answer\n1+1?{delimiter}2\n")
        assert f"divided by {delimiter!r}: set options.delimiter: " in refuse(path, "csv")


def test_two_columns_of_one_name_matter_if_they_are_asked_for(tmp_path: Path) -> None:
    (path := tmp_path / "tasks.csv").write_text("question,answer,x,x\n1+1?,2,a,b\n")
    assert len(read_tasks(source(path, "csv"), 0).rows) == 1
    assert "'x' occurs more than once" in refuse(path, "csv", columns={"question": "x"})


def test_parquet_that_is_none(tmp_path: Path) -> None:
    (path := tmp_path / "tasks.parquet").write_bytes(GOOD * 10)
    assert f"{path}: not a readable Parquet file" in refuse(path, "parquet")
    path.write_bytes(b"")
    assert f"{path}: not a readable Parquet file" in refuse(path, "parquet")
    pq.write_table(pa.table([["1+1?"], ["2"], ["2"]], names=["question", "answer", "answer"]), path)
    assert "'answer' occurs more than once" in refuse(path, "parquet")
    pq.write_table(pa.table({"question": ["1+1?", None], "answer": [2, 4]}), path)
    assert f"{path}:2: the question (column 'question') is null" in refuse(path, "parquet")


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([GOOD, ALSO, b"{", b'"', b"\n", b"\xff", b"[]", b"\\u", b"\0", b"\r"])).map(
        b"".join
    )
)
def test_no_bytes_give_anything_but_rows_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    for kind in ("jsonl", "csv", "parquet"):
        try:
            tasks = read_tasks(source(path, kind, on_bad_row="skip"), 0)
        except DataError as e:
            assert str(path) in str(e)
            str(e).encode()
        else:
            if kind == "jsonl":
                assert len(tasks.rows) + len(tasks.rejected) + tasks.duplicates == sum(
                    bool(line.strip()) for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
                )
