"""Documents as tasks: files, columns of other sources, long ones in pieces, bad ones told."""

import datetime
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Source
from pipeline.errors import DataError
from stages.steps import words
from stages.tasks import read_tasks
from stages.tasks.documents import split


def texts(path: Path, **more) -> list[str]:
    source = Source(source="documents", path=str(path), columns={"answer": None}, **more)
    return [row.payload["question"] for row in read_tasks(source, 0).rows]


def test_a_folder_of_text_files(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("Second\r\n\r\nText of it.\r\n")
    (tmp_path / "a.md").write_text("# First\n\nText.")
    (tmp_path / "c.csv").write_text("no,document")
    assert texts(tmp_path) == ["First\n\nText.", "Second\n\nText of it."]


def test_a_column_of_another_source(tmp_path: Path) -> None:
    rows = [{"body": "Text.", "name": "One"}, {"body": "More.", "name": "Two"}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    options = {"from": "jsonl", "column": "body"}
    assert texts(tmp_path / "d.jsonl", options=options) == ["Text.", "More."]
    assert texts(tmp_path / "d.jsonl", options={**options, "title": "name"}) == [
        "One\n\nText.",
        "Two\n\nMore.",
    ]
    with pytest.raises(DataError, match=r"d\.jsonl:1: no text in column 'text'; there are: 'body', 'name'"):
        texts(tmp_path / "d.jsonl", options={"from": "jsonl"})
    with pytest.raises(DataError, match="unknown options delimiter"):
        texts(tmp_path / "d.jsonl", options={**options, "delimiter": ";"})


def test_long_documents_are_cut_between_paragraphs_under_their_title(tmp_path: Path) -> None:
    paragraphs = [f"p{i} " * 10 for i in range(5)]
    document = "Title\n\n" + "\n\n".join(paragraphs)
    pieces = split(document, 20)
    assert [p.split("\n")[0] for p in pieces] == ["Title"] * 3
    assert (
        "\n".join(pieces).split()
        == " ".join(["Title", *paragraphs[:2], "Title", *paragraphs[2:4], "Title", paragraphs[4]])
        .replace("  ", " ")
        .split()
    )
    (tmp_path / "long.txt").write_text(document)
    assert len(texts(tmp_path, options={"max_words": 20})) == 3
    with pytest.raises(DataError, match="whole number of words"):
        texts(tmp_path, options={"max_words": "20"})


@pytest.mark.parametrize("unit", ["Word after word, so it goes. ", "word ", "春眠不覚暁。", "คำ", "a.\n"])
@given(count=st.integers(1, 120), most=st.integers(1, 30))
def test_no_piece_is_too_long_and_nothing_is_lost(unit: str, count: int, most: int) -> None:
    document = f"Title\n\n{unit * count}\n\n{unit}"
    pieces = split(document, most)
    bodies = [piece.removeprefix("Title\n\n") for piece in pieces]
    assert all(
        piece.startswith("Title\n\n") and len(words.split(body)) <= most
        for piece, body in zip(pieces, bodies, strict=True)
    )
    assert "".join("".join(bodies).split()) == "".join((unit * (count + 1)).split())


def test_long_paragraphs_are_cut_between_sentences() -> None:
    text = "Title\n\nOne two three. Four five? Six seven eight nine ten eleven twelve.\n\nEnd of it."
    assert split(text, 5) == [
        "Title\n\nOne two three. Four five?",
        "Title\n\nSix seven eight nine ten",
        "Title\n\neleven twelve.\n\nEnd of it.",
    ]
    assert split("题目\n\n春天来了。花开了。夏天到了。", 8) == [
        "题目\n\n春天来了。花开了。",
        "题目\n\n夏天到了。",
    ]


def test_a_long_first_line_is_no_title() -> None:
    first = "word " * 30
    assert split(f"{first}\n\nMore.", 31) == [f"{first.strip()}\n\nMore."]
    assert split(f"{first}\n\nMore.", 30) == [first.strip(), "More."]
    assert split("No body", 1) == ["No", "body"]


def test_rows_of_files_beside_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One\n\nText.")
    (tmp_path / "b.jsonl").write_text('{"text": "Two\\n\\nText.", "title": "T"}\n{"text": " "}\n')
    pq.write_table(
        pa.table({"text": ["Three"], "title": ["U"], "at": [datetime.date(1, 1, 1)]}), tmp_path / "c.parquet"
    )
    assert texts(tmp_path, on_bad_row="skip") == ["One\n\nText.", "Two\n\nText.", "Three"]
    assert texts(tmp_path / "c.parquet", options={"title": "title"}) == ["U\n\nThree"]
    with pytest.raises(DataError, match=r"b\.jsonl:2: no text in column 'text'; there are: 'text'"):
        texts(tmp_path)


def test_what_is_wrong_with_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"Title\n\xff text")
    (tmp_path / "b.txt").write_text(" \n")
    (tmp_path / "c.txt").write_text("Good\n\nText.")
    with pytest.raises(DataError, match=r"a\.txt: not UTF-8: byte 0xff at offset 6"):
        texts(tmp_path)
    assert texts(tmp_path, on_bad_row="skip") == ["Good\n\nText."]
    with pytest.raises(DataError, match=r"columns\.answer: null"):
        read_tasks(Source(source="documents", path=str(tmp_path), on_bad_row="skip"), 0)
    with pytest.raises(DataError, match="unknown options colum"):
        texts(tmp_path, options={"colum": "x"})
