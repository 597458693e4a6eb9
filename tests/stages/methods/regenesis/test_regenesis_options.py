"""Options of ReGenesis, its guidelines, and the recipes that ship.

What is wrong is said with file and line.
"""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import dump_recipe, load_recipe
from pipeline.errors import ConfigError, StaleError
from pipeline.rundir import RunDir
from pipeline.store import files
from stages.methods.regenesis import guidelines
from tests.conftest import tiny_recipe


def options(**method: Any) -> dict[str, Any]:
    return tiny_recipe(method={"name": "regenesis", **method}).method


def test_presets_and_their_parts() -> None:
    paper, released = options(), options(preset="released-code")
    assert (paper["n_selected"], paper["use_raw"], len(paper["guidelines"]), paper["keep_per_question"]) == (
        0,
        True,
        25,
        5,
    )
    assert (released["n_selected"], released["use_raw"]) == (20, True)
    assert {tuple(s.values()) for s in paper["sampling"].values()} == {(None, None)}, "the recipe's sampling"
    for preset, temperature in (("paper", 0.85), ("released-code", 1.2)):
        set_ = options(preset=preset, sampling={"adapt": {"temperature": 0.1}})["sampling"]
        assert set_["adapt"] == {"temperature": 0.1, "max_tokens": 2048}
        assert set_["execute"] == {"temperature": temperature, "max_tokens": 2048}
    assert options(preset="released-code", n_selected=3, use_raw=False)["n_selected"] == 3


def test_guidelines_are_ours_and_typed() -> None:
    found = guidelines.read_guidelines(guidelines.DEFAULT)
    assert list(found) == list(range(25)) and [i for i, g in found.items() if g.type == "revision"] == [
        22,
        23,
        24,
    ]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"preset": "papers"}, "method.preset"),
        ({"n_selected": 0, "use_raw": False}, "no chain can start"),
        ({"raw_per_question": 26}, "raw_per_question is 26, but there are 25 raw guidelines"),
        ({"sampling": {"adept": {}}}, "did you mean 'adapt'"),
        ({"sampling": {"adapt": {"temprature": 1}}}, "did you mean 'temperature'"),
        ({"guidelines": {}}, "guidelines is empty"),
    ],
)
def test_options_that_cannot_be_are_refused(method: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        options(**method)


def test_hints_need_answers() -> None:
    for settings in (
        {"verifier": "majority_vote"},
        {"tasks": {"source": "jsonl", "path": "t.jsonl", "columns": {"answer": None}}},
    ):
        with pytest.raises(ConfigError, match="hinted_chains needs answers"):
            tiny_recipe(method={"name": "regenesis", "hinted_chains": 2}, **settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no guidelines in it"),
        (
            '{"index": 0, "type": "a", "text": "b"}\n\n{"index": 1, "type": "a"}\n',
            r"own.jsonl:3: 'text': Field required",
        ),
        (
            '{"index": 0, "type": "a", "text": " "}',
            r"own.jsonl:1: 'text': String should have at least 1 character",
        ),
        (
            '{"index": "0", "type": "a", "text": "b"}',
            r"own.jsonl:1: 'index': Input should be a valid integer",
        ),
        ('{"index": 0, "type": "a", "text": "b", "kind": "c"}', r"own.jsonl:1: unknown field 'kind'"),
        (
            '{"index": 0, "type": "a", "text": "b"}\n{"index": 0, "type": "a", "text": "c"}',
            r"own.jsonl:2: duplicate index 0, first in line 1",
        ),
        (
            '{"index": 0, "type": "a", "text": "b"}\n{"index": 1, "type": "a", "text": "b"}',
            r"own.jsonl:2: duplicate text 'b', first in line 1",
        ),
        ('{"index": 0,', r"own.jsonl:1: not JSON"),
        ('["a"]', r"own.jsonl:1: not an object; expected a line like"),
        (b'\xff{"index": 0}', r"own.jsonl:1: not UTF-8"),
    ],
)
def test_a_bad_guideline_is_named_by_file_and_line(text: str | bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "r.yaml").write_text(
        "name: r\ntasks: {source: jsonl, path: t}\n"
        f"method:\n  name: regenesis\n  guidelines: {tmp_path}/own.jsonl\n"
    )
    with pytest.raises(ConfigError, match=said) as e:
        load_recipe(tmp_path / "r.yaml")
    assert "r.yaml:5: method.guidelines" in str(e.value)


def test_a_missing_file_of_guidelines_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").touch()
    with pytest.raises(ConfigError, match="Did you mean 'mine.jsonl'"):
        options(guidelines=f"{tmp_path}/mine.json")


def test_the_default_is_found_from_any_directory_and_frozen_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tiny_recipe(method={"name": "regenesis"})
    (tmp_path / "again.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "again.yaml") == recipe
    run = RunDir(tmp_path / "run")
    run.freeze(recipe)
    files.write_json(run.path("rounds", "001", "generate", "fingerprint.json"), {})
    other = load_recipe(tmp_path / "again.yaml", ["method.guidelines.3.text=Something else."])
    with pytest.raises(StaleError, match=r"method.guidelines.3.text: '.*' -> 'Something else.'"):
        run.freeze(other)


@pytest.mark.parametrize("name", ["regenesis", "regenesis_direct"])
def test_the_recipes_that_ship(name: str) -> None:
    recipe = load_recipe(f"jobs/recipes/{name}.yaml")
    assert recipe.held_out.count >= 300 and all(
        source.limit >= 300 for source in recipe.evaluate.sets.values()
    )
    others = load_recipe("jobs/recipes/regenesis.yaml")
    same = (
        "seed",
        "model",
        "engine",
        "tasks",
        "held_out",
        "questions_per_round",
        "filters",
        "train",
        "evaluate",
        "verifier",
    )
    assert all(getattr(recipe, part) == getattr(others, part) for part in same)
    assert recipe.method["keep_per_question"] == others.method["keep_per_question"]
