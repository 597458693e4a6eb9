"""inspect of a dataset: its folder or file, whoever wrote it."""

import json
from pathlib import Path

import pytest

from tests.jobs.conftest import HOSTILE, Built, assert_safe


def facts_of(selfloop, path: Path | str, *arguments: str):
    found = selfloop("inspect", path, *arguments, "--json")
    assert found.status == 0, found.text
    return json.loads(found.out)


def test_a_published_dataset(built: Built, selfloop):
    folder = built.run.dataset("sft", 1)
    split = facts_of(selfloop, folder, "-n", "1")["splits"]["train"]
    assert split["rows"] == 2 and len(split["sample"]) == 1
    assert (
        split["columns"]["completion"] == "[{role, content}]" and split["columns"]["tokens_prompt"] == "int32"
    )
    text = "2 and 2 make 4.\nAnswer: 4"
    assert split["sample"][0]["completion"] == [{"role": "assistant", "content": text}]
    assert split["lengths"]["completion"] == {"unit": "characters", "p50": 25, "p95": 25, "max": 25}
    shown = selfloop("inspect", folder).text
    assert "train: 2 rows" in shown and "2 and 2 make 4." in shown


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl", "x.csv", "x", "folder/data.parquet"])
def test_files_and_folders_of_files(built: Built, selfloop, tmp_path: Path, name: str):
    exported = tmp_path / name
    selfloop("export", built.run.root, "--stage", "generate", "--round", "1", "--to", exported)
    path = exported.parent if "/" in name else exported
    split = facts_of(selfloop, path)["splits"]["train"]
    assert split["rows"] == 6 and HOSTILE in {
        row["text"] for row in facts_of(selfloop, path, "-n", "6")["splits"]["train"]["sample"]
    }
    shown = selfloop("inspect", path, "-n", "6", "--full")
    assert shown.status == 0 and "[bold]not bold[/bold]" in shown.text
    assert_safe(shown.text)


def test_a_run_by_its_path_and_mistakes(built: Built, selfloop, tmp_path: Path):
    assert selfloop("inspect", built.run.root).text == selfloop("inspect", "--run", built.run.root).text
    assert "once" in selfloop("inspect").text
    assert "once" in selfloop("inspect", built.run.root, "--run", built.run.root).text
    assert "neither rounds" in selfloop("inspect", built.run.dataset("sft", 1), "--stage", "verify").text
    (tmp_path / "x.jsonl").write_text('{"a": 1}x\n')
    bad = selfloop("inspect", tmp_path / "x.jsonl")
    assert bad.status == 2 and "cannot be read as a dataset" in bad.text
    assert "no such folder" in selfloop("inspect", tmp_path / "nowhere").text
