"""The wheel has prompts, recipes and data, adds only three packages, and works from an empty directory."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.places import PROJECT, PROMPTS, RECIPES

pytestmark = pytest.mark.slow

FOLDERS = ("pipeline", "stages", "jobs", "prompts", "data")
FILES = ("pyproject.toml", "setup.py", "README.md")
LOOK = """
import json
from jobs.common import default_run, recipe_path
from pipeline import cluster, places, prompts
from pipeline.config import load_recipe
from stages.tasks.paths import find_files
print(json.dumps({
    "pipeline": places.__file__,
    "checkout": places.CHECKOUT,
    "prompt": (prompts.FOLDER / "direct" / "solve.jinja").read_text(),
    "data": find_files("data/addition/demonstrations.jsonl", "jsonl", (".jsonl",)),
    "documents": len(find_files("data/countries/fiction/documents", "documents", (".txt",))),
    "run": default_run(load_recipe(recipe_path("quickstart"))),
    "submit": cluster.submit_line(["jobs/iterate.py", "quickstart"]),
    "guidelines": len(load_recipe(recipe_path("regenesis")).method["guidelines"]),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools leaves build/ and an egg-info behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in FOLDERS:
        shutil.copytree(
            PROJECT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", "runs")
        )
    for file in FILES:
        shutil.copy(PROJECT / file, source)
    pip("wheel", "--no-build-isolation", "--wheel-dir", out, source)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, which borrows this one's dependencies but not its selfloop."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    packages = venv / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    # .pth files of a folder that a .pth file adds are not read, so an editable selfloop there stays out.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip("--python", venv / "bin" / "python", "install", "--no-index", wheel)
    return venv / "bin"


def pip(*arguments: Any) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        *map(str, arguments),
        "--no-deps",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_prompts_recipes_and_their_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0].partition("-")[0] for name in names} == {
        "jobs",
        "pipeline",
        "stages",
        "selfloop",
    }
    prompts = {f"pipeline/_shipped/prompts/{p.relative_to(PROMPTS)}" for p in PROMPTS.rglob("*.jinja")}
    recipes = {f"jobs/recipes/{p.name}" for p in RECIPES.glob("*.yaml")}
    assert prompts and recipes and prompts | recipes <= names
    for recipe in RECIPES.glob("*.yaml"):
        for path in data_paths(yaml.safe_load(recipe.read_text())):
            assert any(name.startswith(f"pipeline/_shipped/{path}") for name in names), (recipe.name, path)
    modules = {str(p.relative_to(PROJECT)) for f in FOLDERS[:3] for p in (PROJECT / f).rglob("*.py")}
    assert modules <= names
    page = {str(p.relative_to(PROJECT)) for p in (PROJECT / "stages/reports/page").iterdir() if p.is_file()}
    assert len(page) > 10 and page <= names, "templates, style and script of the report"


def data_paths(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value.startswith("data/") else []
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [path for item in items for path in data_paths(item)]


def test_it_works_from_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*command: Any) -> str:
        done = subprocess.run(
            list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    seen = json.loads(run(installed / "python", "-c", LOOK))
    assert seen["pipeline"].startswith(str(installed.parent)) and not seen["checkout"]
    assert seen["prompt"] == (PROMPTS / "direct" / "solve.jinja").read_text()
    assert seen["data"][0].endswith("_shipped/data/addition/demonstrations.jsonl") and seen["documents"] == 40
    assert seen["run"] == str(tmp_path / "data" / "runs" / "quickstart") and seen["guidelines"] == 25
    assert seen["submit"] == "ray job submit --working-dir . -- python -m jobs.iterate quickstart"
    assert "quickstart" in run(installed / "selfloop", "recipes")
