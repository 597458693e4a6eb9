"""init: the recipe it writes loads and reads the data, guesses are explained, nothing is overwritten."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Recipe, load_recipe
from pipeline.config.presets import PRESETS
from stages.tasks import read_tasks
from tests.stages.tasks import layouts

ROWS: list[dict[str, Any]] = [
    {"uid": f"q{i}", "prompt": f"What is {i} + 1?", "level": "easy", "target": i + 1} for i in range(10)
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jsonl(name: str, rows: list[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def written(selfloop, *arguments: str) -> Recipe:
    made = selfloop("init", "my.yaml", *arguments)
    assert made.status == 0, made.text
    return load_recipe("my.yaml")


def write_as(kind: str) -> str:
    if kind in ("jsonl", "ndjson"):
        return jsonl(f"mine.{kind}", ROWS)
    if kind == "json":
        Path("mine.json").write_text(json.dumps(ROWS, indent=1))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), "mine.parquet")
    else:
        delimiter = {"csv": ",", "tsv": "\t", "semicolon.csv": ";"}[kind]
        lines = [list(ROWS[0]), *(list(map(str, row.values())) for row in ROWS)]
        Path(f"mine.{kind}").write_text("\n".join(map(delimiter.join, lines)) + "\n")
    return f"mine.{kind}"


@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "json", "csv", "tsv", "semicolon.csv", "parquet"])
def test_files_of_every_kind(selfloop, kind: str) -> None:
    recipe = written(selfloop, "--tasks", write_as(kind))
    columns = recipe.tasks.columns
    assert (columns.question, columns.answer, columns.id) == ("prompt", "target", "uid")
    assert recipe.tasks.answer_type == "number" and recipe.held_out.count == 2
    rows = read_tasks(recipe.tasks, 0).rows
    assert len(rows) == 10 and rows[3].payload["answer"] == "4"


def test_a_folder_and_a_list_of_json_lines(selfloop) -> None:
    Path("folder").mkdir()
    jsonl("folder/a.jsonl", ROWS)
    assert written(selfloop, "--tasks", "folder").tasks.source == "jsonl"
    jsonl("lines.json", ROWS)
    assert selfloop("init", "other.yaml", "--tasks", "lines.json").status == 0
    assert load_recipe("other.yaml").tasks.source == "jsonl"


def test_guesses_are_explained_in_the_recipe_and_on_the_terminal(selfloop) -> None:
    made = selfloop("init", "my.yaml", "--tasks", jsonl("mine.jsonl", ROWS))
    for text in (made.text, Path("my.yaml").read_text()):
        assert 'such as "What is 0 + 1?"' in text and "all 10 answers are numbers" in text


def test_nothing_is_overwritten(selfloop) -> None:
    Path("my.yaml").write_text("mine")
    refused = selfloop("init", "my.yaml")
    assert refused.status == 2 and "exists already" in refused.text and Path("my.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("answers", "answer_type"),
    [
        (["yes", "No"], "boolean"),
        (["50%", "7 %"], "percentage"),
        (["1/2", "1,000"], "number"),
        ([r"\sqrt{2}", r"\frac{1}{x}"], "math"),
        (["Paris", "Rome"], "text"),
    ],
)
def test_answer_types(selfloop, answers: list[str], answer_type: str) -> None:
    rows = [{"question": f"Question {i}?", "answer": a} for i, a in enumerate(answers)]
    assert written(selfloop, "--tasks", jsonl("t.jsonl", rows)).tasks.answer_type == answer_type


def test_choices(selfloop) -> None:
    rows = [{"question": f"{i}: which?", "choices": ["sky", "grass"], "answer": "B"} for i in range(3)]
    recipe = written(selfloop, "--tasks", jsonl("t.jsonl", rows))
    assert recipe.tasks.columns.options == "choices" and recipe.tasks.answer_type == "choice"
    rows = [row | {"answer": 1} for row in rows]
    refused = selfloop("init", "other.yaml", "--tasks", jsonl("u.jsonl", rows))
    assert (
        refused.status == 2 and "3 of 3 rows cannot be used" in refused.text and "u.jsonl:1" in refused.text
    )


def test_unknown_columns_are_a_question(selfloop) -> None:
    path = jsonl("t.jsonl", [{"stimulus": "What is up?", "reply": "sky"}])
    asked = selfloop("init", "my.yaml", "--tasks", path)
    assert asked.status == 2 and not Path("my.yaml").exists()
    assert "which column holds the question? Name it with --question COLUMN" in asked.text
    assert 'stimulus: "What is up?"' in asked.text and 'reply: "sky"' in asked.text
    asked = selfloop("init", "my.yaml", "--tasks", path, "--question", "stimulus")
    assert asked.status == 2 and "--no-answers" in asked.text
    assert "no column 'nix'" in selfloop("init", "my.yaml", "--tasks", path, "--question", "nix").text
    recipe = written(selfloop, "--tasks", path, "--question", "stimulus", "--answer", "reply")
    assert recipe.tasks.columns.question == "stimulus" and recipe.tasks.answer_type == "text"


def test_without_answers(selfloop) -> None:
    path = jsonl("t.jsonl", [{"question": "What is up?"}])
    recipe = written(selfloop, "--tasks", path, "--no-answers")
    assert recipe.tasks.columns.answer is None and recipe.verifier == "majority_vote"
    assert recipe.held_out.source is not None


def test_some_unusable_rows_are_skipped(selfloop) -> None:
    rows = [row | {"target": "none" if i == 3 else row["target"]} for i, row in enumerate(ROWS)]
    recipe = written(selfloop, "--tasks", jsonl("t.jsonl", rows))
    assert recipe.tasks.on_bad_row == "skip" and len(read_tasks(recipe.tasks, 0).rows) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "none.jsonl"], "no such file or folder"),
        (["--tasks", "x.docx"], "expected a file that ends in .jsonl"),
        (["--question", "q"], "--tasks is missing"),
        (["--answer-type", "numbr"], "expected one of number"),
        (["--tasks", "x.docx", "--answer", "a", "--no-answers"], "give one of them"),
        (["--tasks", "empty.jsonl"], "no row can be read"),
        (["--tasks", "x.jsonl", "--split", "test"], "are for datasets of the Hub"),
    ],
)
def test_mistakes(selfloop, arguments: list[str], message: str) -> None:
    for name in ("x.docx", "empty.jsonl", "x.jsonl"):
        Path(name).touch()
    refused = selfloop("init", "my.yaml", *arguments)
    assert refused.status == 2 and message in refused.text and not Path("my.yaml").exists()


@pytest.mark.parametrize("name", ["my.yaml", "a strange näme!.yaml"])
def test_a_bare_recipe_loads(selfloop, name: str) -> None:
    assert selfloop("init", name).status == 0
    Path("questions.jsonl").write_text('{"question": "What is 2 + 2?", "answer": 4}\n')
    assert len(read_tasks(load_recipe(name).tasks, 0).rows) == 1


def test_a_written_recipe_runs(selfloop, in_process) -> None:
    written(selfloop, "--tasks", jsonl("mine.jsonl", ROWS))
    made = selfloop(
        *("generate", "--recipe", "my.yaml", "--run", "run", "--round", "1", "--address", "this-ray"),
        *("--set", "engine={kind: scripted}"),
    )
    assert made.status == 0 and "generate" in made.text, made.text


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("preset", PRESETS)
def test_layouts_of_public_data_sets_are_recognized(
    selfloop, elsewhere: Path, preset: str, kind: str
) -> None:
    path = layouts.write(elsewhere, preset, kind)
    made = selfloop("init", "my.yaml", "--tasks", path.name)
    assert made.status == 0 and f"preset      {preset}: the columns are those of" in made.text, made.text
    recipe = load_recipe("my.yaml")
    assert recipe.tasks.preset == preset
    assert len(read_tasks(recipe.tasks, 0).rows) == len(layouts.ROWS[preset])


def test_what_looks_like_a_public_data_set_is_not_guessed_at(selfloop) -> None:
    rows = [{"question": f"{i}?", "choices": ["5", "6"], "answer": 1} for i in range(3)]
    refused = selfloop("init", "my.yaml", "--tasks", jsonl("t.jsonl", rows))
    assert refused.status == 2 and "set answer_is: index0, index1 or text" in refused.text
    recipe = written(selfloop, "--tasks", "t.jsonl", "--answer-is", "index1")
    assert recipe.tasks.preset is None and recipe.tasks.answer_is == "index1"
    assert [row.payload["answer"] for row in read_tasks(recipe.tasks, 0).rows] == ["A"] * 3
    assert (
        "expected one of index0" in selfloop("init", "o.yaml", "--tasks", "t.jsonl", "--answer-is", "x").text
    )


def test_nested_columns_can_be_named(selfloop, elsewhere: Path) -> None:
    path = layouts.write(elsewhere, "verl", "parquet").name
    recipe = written(
        selfloop, "--tasks", path, "--question", "prompt", "--answer", "reward_model.ground_truth"
    )
    assert [row.payload["answer"] for row in read_tasks(recipe.tasks, 0).rows] == ["34", "13", "42"]
