"""Hugging Face datasets: saved folders, folders of data files, and what cannot be loaded."""

import json
from pathlib import Path

import datasets
import pytest

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks import read_tasks

ROWS = {"question": ["1+1?", "2+2?"], "answer": [2, 4]}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def answers(path: Path | str, **more) -> list[str | None]:
    return [row.payload["answer"] for row in read_tasks(Source(source="hf", path=str(path), **more), 0).rows]


def test_saved_folders(tmp_path: Path) -> None:
    saved = datasets.Dataset.from_dict(ROWS)
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": saved, "test": saved.select([1])}).save_to_disk(tmp_path / "dict")
    assert answers(tmp_path / "one") == ["2", "4"]
    assert answers(tmp_path / "dict") == ["2", "4"]
    assert answers(tmp_path / "dict", options={"split": "test"}) == ["4"]
    with pytest.raises(DataError, match="no split 'dev'; there are: train, test"):
        answers(tmp_path / "dict", options={"split": "dev"})
    with pytest.raises(DataError, match="has no splits"):
        answers(tmp_path / "one", options={"split": "dev"})


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_folders_of_data_files(tmp_path: Path, kind: str) -> None:
    (folder := tmp_path / "data").mkdir()
    saved = datasets.Dataset.from_dict(ROWS)
    {"parquet": saved.to_parquet, "jsonl": saved.to_json, "csv": saved.to_csv}[kind](folder / f"train.{kind}")
    assert answers(folder) == ["2", "4"]
    with pytest.raises(DataError, match=r"data: cannot be loaded with options .*Unknown split"):
        answers(folder, options={"split": "dev"})
    with pytest.raises(DataError, match="data: cannot be loaded"):
        answers(folder, options={"nonsense": 1})


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_values_of_files_stay_as_they_are_written(tmp_path: Path, kind: str) -> None:
    (folder := tmp_path / "data").mkdir()
    big = "12345678901234567890123"
    text = {
        "csv": f"question,answer,code\n1?,1.10,007\n2?,{big},008\n",
        "jsonl": f'{{"question": "1?", "answer": 1.10}}\n{{"question": "2?", "answer": {big}}}\n',
        "json": f'[{{"question": "1?", "answer": 1.10}},\n{{"question": "2?", "answer": {big}}}]',
    }[kind]
    (folder / f"train.{kind}").write_text(text)
    (folder / f"test.{kind}").write_text(text.replace("1.10", "3"))
    assert answers(folder) == ["1.10", big]
    assert answers(folder, options={"split": "test"}) == ["3", big]
    assert answers(folder / f"train.{kind}") == ["1.10", big]
    if kind == "csv":
        rows = read_tasks(Source(source="hf", path=str(folder), columns={"id": "code"}), 0).rows
        assert [row.payload["source"]["id"] for row in rows] == ["007", "008"]
    assert answers(folder, options={"split": "train[:1]+test[1:]"}) == ["1.10", big]
    assert answers(folder, options={"streaming": True}) == ["1.10", big]
    with pytest.raises(DataError, match=r"one file takes no option data_dir"):
        answers(folder / f"train.{kind}", options={"data_dir": "x"})


def test_rows_within_an_object_of_json(tmp_path: Path) -> None:
    (folder := tmp_path / "data").mkdir()
    (path := folder / "train.json").write_text('{"v": 1,\n"rows": [{"question": "1?", "answer": 007.0}]}')
    with pytest.raises(DataError, match="neither a JSON array nor a JSON object per line"):
        answers(path)
    path.write_text('{"v": 1,\n"rows": [{"question": "1?", "answer": 7.0}, 3]}')
    with pytest.raises(DataError, match=r"one JSON object; its lists are: 'rows'\. Set options\.field"):
        answers(path)
    for where in (path, folder):
        assert answers(where, options={"field": "rows"}, on_bad_row="skip") == ["7.0"]


def test_a_file_for_each_row(tmp_path: Path) -> None:
    for split, number in (("train", 1), ("train", 2), ("test", 3)):
        (folder := tmp_path / "MATH" / split / "algebra").mkdir(parents=True, exist_ok=True)
        row = {"problem": f"{number}?", "level": "Level 1", "solution": f"\\boxed{{{number}}}"}
        (folder / f"{number}.json").write_text(json.dumps(row, indent=4))
    assert answers(tmp_path / "MATH", preset="math") == ["1", "2"]
    assert answers(tmp_path / "MATH", preset="math", options={"split": "test"}) == ["3"]


def test_class_labels_become_their_names(tmp_path: Path) -> None:
    features = datasets.Features(
        {"question": datasets.Value("string"), "answer": datasets.ClassLabel(names=["false", "true"])}
    )
    datasets.Dataset.from_dict({"question": ["Is it?"], "answer": [1]}, features=features).save_to_disk(
        tmp_path / "labels"
    )
    assert answers(tmp_path / "labels", answer_type="boolean") == ["true"]


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nobody/nothing: neither a local folder nor"):
        answers("nobody/nothing")
    with pytest.raises(DataError, match="code that comes with a dataset is never run"):
        answers("nobody/nothing", options={"trust_remote_code": True})
    with pytest.raises(DataError, match="needs a path"):
        answers("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        answers(tmp_path / "empty")
    (bad := tmp_path / "bad").mkdir()
    (bad / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="bad"):
        answers(bad)
