"""export: typed tables that pandas and datasets read back, complete, and nothing overwritten unasked."""

import json
import os
import shutil
from pathlib import Path

import pandas
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset, load_from_disk

from pipeline.rundir import RunDir
from tests.jobs.conftest import HOSTILE, Built, assert_safe


def export(selfloop, built: Built, to: Path | str, *arguments: str, status: int = 0):
    found = selfloop("export", built.run.root, "--to", str(to), *arguments)
    assert found.status == status, found.text
    assert_safe(found.text)
    return found.text


def read(path: Path, cache: Path) -> list[dict]:
    """Return an export's rows as `datasets` reads them."""
    if path.is_dir():
        assert (
            load_from_disk(str(path))["train"].num_rows
            == load_dataset(str(path), split="train", cache_dir=str(cache)).num_rows
        )
        return load_from_disk(str(path))["train"].to_list()
    kind = {".jsonl": "json"}.get(path.suffix, path.suffix[1:])
    return load_dataset(kind, data_files=str(path), split="train", cache_dir=str(cache)).to_list()


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl", "x"])
def test_types_survive(built: Built, selfloop, tmp_path: Path, name: str):
    export(selfloop, built, tmp_path / name, "--stage", "verify")
    [row] = read(tmp_path / name, tmp_path / "cache")
    [stored] = built.run.rows(built.run.stage(1, "verify"))
    assert row["round"] == 1 and row["id"] == stored.id and row["parents"] == stored.parents
    assert {k: row[k] for k in stored.payload} == stored.payload
    assert row["verdict"] == {"correct": True, "extracted": "4", "problem": "", "score": None}


def test_all_rounds_and_rejects(built: Built, selfloop, tmp_path: Path):
    said = export(selfloop, built, tmp_path / "all.parquet", "--stage", "generate")
    assert "8 rows of generate" in said and "generate of round 2 is under way" in said
    rows = pandas.read_parquet(tmp_path / "all.parquet")
    assert list(rows["round"]) == [1] * 6 + [2] * 2 and rows["sample"].dtype == "int64"
    assert HOSTILE in set(rows["text"])
    export(selfloop, built, tmp_path / "one.jsonl", "--stage", "verify", "--round", "1", "--dropped")
    dropped = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    assert sorted(r["reason"] for r in dropped) == ["minority", "minority", "wrong_answer"]
    assert [r["raw"] for r in dropped if r["reason"] == "wrong_answer"] == [HOSTILE]
    export(selfloop, built, tmp_path / "bad.jsonl", "--stage", "tasks", "--failed")
    assert json.loads((tmp_path / "bad.jsonl").read_text())["where"] == "tasks.jsonl:9"


def test_no_rows_have_their_columns(built: Built, selfloop, tmp_path: Path):
    export(selfloop, built, tmp_path / "none.parquet", "--stage", "generate", "--failed")
    table = pq.read_table(tmp_path / "none.parquet")
    assert table.num_rows == 0 and table.column_names[:5] == ["round", "id", "parents", "reason", "detail"]
    export(selfloop, built, tmp_path / "none", "--stage", "generate", "--failed")
    assert load_from_disk(str(tmp_path / "none"))["train"].num_rows == 0


def test_csv_for_programs_and_for_spreadsheets(built: Built, selfloop, tmp_path: Path, monkeypatch):
    cells = ["=1+1", "+SUM(A1)", "@x", "-2", "+3,5", "- a list", "\tx", "a=b", ""]
    batches = [[{"round": 1, "id": str(i), "text": text, "parents": ["=x"]} for i, text in enumerate(cells)]]
    from pipeline.tables import views
    from pipeline.tables.columns import Table

    monkeypatch.setattr(views, "stage_table", lambda *_: Table("verify", lambda: iter(batches), {}))
    said = export(selfloop, built, tmp_path / "x.csv", "--stage", "verify")
    assert "5 cells begin with" in said
    assert list(pandas.read_csv(tmp_path / "x.csv", keep_default_na=False)["text"]) == cells
    assert json.loads(pandas.read_csv(tmp_path / "x.csv")["parents"][0]) == ["=x"]
    assert "cells begin" not in export(
        selfloop, built, tmp_path / "y.csv", "--stage", "verify", "--spreadsheet"
    )
    assert list(pandas.read_csv(tmp_path / "y.csv", keep_default_na=False)["text"]) == [
        *("'=1+1", "'+SUM(A1)", "'@x", "-2", "+3,5", "'- a list", "'\tx", "a=b", "")
    ]


def test_nothing_is_overwritten_unasked(built: Built, selfloop, tmp_path: Path):
    for name in ("x.csv", "folder"):
        export(selfloop, built, tmp_path / name, "--stage", "filter")
        assert "--force" in export(selfloop, built, tmp_path / name, "--stage", "filter", status=2)
        export(selfloop, built, tmp_path / name, "--stage", "filter", "--force")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    said = export(selfloop, built, tmp_path / "mine", "--stage", "filter", "--force", status=2)
    assert "a folder with other things in it" in said and (tmp_path / "mine" / "thesis.tex").exists()
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith((".tmp", ".old"))]


@pytest.mark.parametrize(
    "arguments, why",
    [
        (["--stage", "verfy", "--to", "x.csv"], "did you mean 'verify'"),
        (["--stage", "verify", "--to", ""], "--to is empty"),
        (["--stage", "train", "--to", "x.csv"], "a training has no rows"),
        (["--stage", "verify", "--to", "x.xlsx"], "ends in .parquet, .jsonl, .csv, or a folder"),
        (["--stage", "verify", "--to", "x.csv", "--round", "7"], "verify has no rows in round 7"),
        (["--stage", "verify", "--to", "x.csv", "--dropped", "--failed"], "one at a time"),
        (["--stage", "verify", "--to", "x.parquet", "--spreadsheet"], "for CSV"),
        (
            ["--stage", "verify", "--to", "RUN/datasets/sft/round-001", "--force"],
            "among the files of the run",
        ),
        (["--stage", "verify", "--to", "RUN/rounds/x.csv"], "among the files of the run"),
    ],
)
def test_mistakes(built: Built, selfloop, tmp_path: Path, monkeypatch, arguments: list[str], why: str):
    monkeypatch.chdir(tmp_path)
    found = selfloop("export", built.run.root, *(a.replace("RUN", built.run.root) for a in arguments))
    assert found.status == 2 and why in found.text, found.text
    assert not os.listdir(tmp_path)


def test_a_lost_part_is_an_error(built: Built, selfloop, tmp_path: Path):
    copy = RunDir(shutil.copytree(built.run.root, tmp_path / "run"))
    Path(copy.path(copy.manifest(copy.stage(1, "filter")).parts[0].path)).unlink()
    found = selfloop("export", copy.root, "--stage", "filter", "--to", tmp_path / "x.csv")
    assert found.status == 2 and "missing, but a manifest.json lists it" in found.text
    assert not (tmp_path / "x.csv").exists()


def test_no_run(selfloop, tmp_path: Path):
    found = selfloop("export", str(tmp_path / "nowhere"), "--stage", "verify", "--to", "x.csv")
    assert found.status == 2 and "no such folder" in found.text
    assert RunDir(tmp_path / "nowhere").rounds() == []
