"""recipes: the shipped ones are listed with what they take, and found by name or old path from anywhere."""

import json
from pathlib import Path

import pytest

from jobs.common import default_run, recipe_path, shipped_recipes
from jobs.recipes import head
from pipeline.config import load_recipe
from pipeline.errors import ConfigError
from pipeline.places import PROJECT, RECIPES
from stages.tasks import read_demonstrations

SHIPPED = list(shipped_recipes())


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SHIPPED)
def test_each_declares_what_it_does_and_takes(name: str) -> None:
    declared = head(RECIPES / f"{name}.yaml")
    assert declared["name"] == name and len(declared["summary"]) > 20
    assert " min on 2 cores" in declared["takes"] or ("planned" in declared["takes"] and declared["needs"])


def test_the_list_and_one_of_it(selfloop, elsewhere: Path) -> None:
    shown = selfloop("recipes")
    assert (
        shown.status == 0
        and all(name in shown.text for name in SHIPPED)
        and "14 min on 2 cores" in shown.text
    )
    listed = json.loads(selfloop("recipes", "--json").out)
    assert {r["name"] for r in listed} == set(SHIPPED) and listed[0]["name"] == "quickstart"
    text = (RECIPES / "self.yaml").read_text()
    assert selfloop("recipes", "self").out == text
    assert json.loads(selfloop("recipes", "self", "--json").out)["text"] == text


@pytest.mark.parametrize(
    "name", ["quickstart", "quickstart.yaml", "jobs/quickstart.yaml", "jobs/recipes/quickstart.yaml"]
)
def test_names_and_old_paths(elsewhere: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe_path(name) == str(RECIPES / "quickstart.yaml")
    assert ("using the shipped recipe" in capsys.readouterr().err) == ("/" in name)


def test_a_file_comes_before_a_shipped_name(elsewhere: Path) -> None:
    (elsewhere / "quickstart").mkdir()  # such as a run directory
    assert recipe_path("quickstart") == str(RECIPES / "quickstart.yaml")
    (elsewhere / "quickstart.yaml").touch()
    assert recipe_path("quickstart.yaml") == "quickstart.yaml"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("quickstat", "quickstart"),
        ("self-lengthen.yaml", "self_lengthen"),
        ("my", "my.yaml"),
        ("mine.yml", "mine.yaml"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(elsewhere: Path, name: str, near: str) -> None:
    for file in ("my.yaml", "mine.yaml"):
        (elsewhere / file).touch()
    with pytest.raises(ConfigError, match=rf"no such recipe.*Did you mean '{near}'\?.*`selfloop recipes`"):
        recipe_path(name)


def test_a_shipped_recipe_runs_from_anywhere(selfloop, elsewhere: Path) -> None:
    assert selfloop("iterate", "regenesis", "--print-config").out.startswith("name: regenesis")
    recipe = load_recipe(recipe_path("quickstart"))
    assert default_run(recipe) == str(PROJECT / "data" / "runs" / "quickstart")
    assert recipe.demonstrations and len(read_demonstrations(recipe.demonstrations, 0).rows) == 24
