"""Files that ship with selfloop are found from any directory; a file of the same path here comes first."""

from pathlib import Path

import pytest

from pipeline.config import Source
from pipeline.errors import DataError
from pipeline.places import PROJECT
from stages.tasks import read_tasks
from stages.tasks.paths import find_files

SHIPPED = "data/addition/demonstrations.jsonl"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def find(path: str) -> list[str]:
    return find_files(path, "jsonl", (".jsonl",))


def test_shipped_files_folders_and_patterns() -> None:
    assert find(SHIPPED) == find("data/addition") == find("data/addition/*.jsonl") == [str(PROJECT / SHIPPED)]
    assert len(read_tasks(Source(source="jsonl", path=SHIPPED), 0).rows) == 100


def test_the_working_directory_comes_first() -> None:
    Path(SHIPPED).parent.mkdir(parents=True)
    Path(SHIPPED).touch()
    assert find(SHIPPED) == [SHIPPED]


def test_an_error_names_both_places(tmp_path: Path) -> None:
    with pytest.raises(DataError) as e:
        find("data/addition/demonstration.jsonl")
    assert f"neither in {tmp_path} nor among selfloop's own files in {PROJECT}" in str(e.value)
    with pytest.raises(DataError, match="no such file or folder. The folder"):
        find("nowhere/tasks.jsonl")  # only data/ is looked up elsewhere


@pytest.mark.parametrize("path", ["./here", "here/", "here/*.jsonl"])
def test_files_are_named_as_the_recipe_names_them(tmp_path: Path, path: str) -> None:
    Path("here").mkdir()
    Path("here/t.jsonl").touch()
    [file] = find(path)
    assert Path(file).absolute() == tmp_path / "here" / "t.jsonl"
    assert file == "here/t.jsonl" or path != "here/*.jsonl"
