"""Documents as tasks: files, columns of other sources, long ones in pieces, bad ones told."""

import json
from pathlib import Path

import pytest

from pipeline.config import Source
from pipeline.errors import DataError
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
