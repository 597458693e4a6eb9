"""Public data sets as they are published: read through their preset, and with columns of one's own."""

from pathlib import Path
from typing import Any

import datasets
import pytest

from pipeline.config import Source, dump_recipe, load_recipe
from pipeline.config.presets import PRESETS
from pipeline.errors import ConfigError, DataError
from pipeline.rundir import RunDir
from stages.steps.verifiers import ground_truth
from stages.tasks import read_demonstrations, read_tasks
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.stages.tasks.layouts import GSM8K, MATH_500, MMLU, MMLU_FEATURES, ROWS, write

ANSWERS: dict[str, list[str | None]] = {
    "gsm8k": ["72", "110,000", "-5"],
    "math": ["\\frac{5}{6}", "5\\sqrt{2}", "5"],
    "mmlu": ["C", "B", "A"],
    "mmlu_pro": ["B", "J", "E"],
    "arc": ["B", "C", "A"],
    "verl": ["34", "13", "42"],
    "deepscaler": ["42", "\\frac{x}{2}"],
    "olympiadbench": ["$3$", "$11$", "$2015$"],
    "humaneval": [None, None],
    "mbpp": [None, None],
    "apps": [None, None],
    "messages": [None, None],
    "sharegpt": [None, None],
}
BY_HAND: dict[str, dict[str, Any]] = {
    "gsm8k": {"answer_mark": "####", "columns": {"solution": "answer"}},
    "math": {
        "answer_type": "math",
        "answer_mark": "boxed",
        "columns": {"question": "problem", "answer": "solution", "solution": "solution"},
    },
    "mmlu": {"answer_type": "choice", "answer_is": "index0", "columns": {"options": "choices"}},
    "mmlu_pro": {"answer_type": "choice", "columns": {"options": "options"}},
    "arc": {"answer_type": "choice", "columns": {"options": "choices", "answer": "answerKey"}},
    "verl": {
        "answer_type": "math",
        "columns": {"question": "prompt", "answer": "reward_model.ground_truth"},
    },
    "deepscaler": {"answer_type": "math", "columns": {"question": "problem", "solution": "solution"}},
    "olympiadbench": {
        "answer_type": "math",
        "columns": {"answer": "final_answer.0", "solution": "solution.0"},
    },
    "humaneval": {
        "answer_type": "code",
        "columns": {"question": "prompt", "answer": None, "tests": "test", "entry_point": "entry_point"},
    },
    "mbpp": {
        "answer_type": "code",
        "columns": {"question": "text", "answer": None, "tests": "test_list"},
    },
    "apps": {"answer_type": "code", "columns": {"answer": None, "tests": "input_output"}},
    "messages": {
        "answer_type": "text",
        "columns": {"question": "messages", "answer": None, "solution": "messages"},
    },
    "sharegpt": {
        "answer_type": "text",
        "columns": {"question": "conversations", "answer": None, "solution": "conversations"},
    },
}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def answers(source: Source) -> list[str | None]:
    return [row.payload["answer"] for row in read_tasks(source, 0).rows]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_reads_what_columns_named_by_hand_read(tmp_path: Path, preset: str, kind: str) -> None:
    path = str(write(tmp_path, preset, kind))
    reader = "hf" if kind == "json" else kind
    ready = read_tasks(Source(source=reader, path=path, preset=preset), 0)
    assert [row.payload["answer"] for row in ready.rows] == ANSWERS[preset]
    assert not ready.rejected and not ready.notes
    by_hand = read_tasks(Source(source=reader, path=path, **BY_HAND[preset]), 0)
    assert [row.payload for row in by_hand.rows] == [row.payload for row in ready.rows]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_layout_is_frozen_from_a_local_copy(tmp_path: Path, preset: str) -> None:
    (folder := tmp_path / "copy").mkdir()
    write(folder, preset, "parquet").rename(folder / "train.parquet")
    recipe = tiny_recipe(tasks={"source": "hf", "path": str(folder), "preset": preset}, held_out={"count": 1})
    run = RunDir(tmp_path / "run")
    freeze(run, recipe)
    rows = [*run.rows(run.tasks("train")), *run.rows(run.tasks("held_out"))]
    assert {row.payload["answer"] for row in rows} == set(ANSWERS[preset])


def test_a_worked_solution_ends_before_its_mark(tmp_path: Path) -> None:
    source = Source(source="jsonl", path=str(write(tmp_path, "gsm8k", "jsonl")), preset="gsm8k")
    first, second, _ = read_demonstrations(source, 0).rows
    assert first.payload["solution"].endswith("<<48+24=72>>72.") and first.payload["answer"] == "72"
    assert second.payload["answer"] == "110,000"
    run = RunDir(tmp_path / "run")
    freeze(
        run, tiny_recipe(tasks=source.model_dump(), demonstrations=source.model_dump(), held_out={"count": 1})
    )
    texts = [row.payload["text"] for row in run.rows(run.tasks("demonstrations"))]
    assert "####" not in "".join(texts) and ground_truth({**first.payload, "text": texts[0]}).correct


def test_conversations_keep_their_earlier_turns(tmp_path: Path) -> None:
    for preset in ("messages", "sharegpt"):
        source = Source(source="jsonl", path=str(write(tmp_path, preset, "jsonl")), preset=preset)
        long, short = read_demonstrations(source, 0).rows
        assert long.payload["question"] == "Name a colour." and long.payload["solution"] == "Blue."
        assert [turn["role"] for turn in long.payload["turns"]] == ["system", "user", "assistant"]
        assert long.payload["turns"][0]["content"] == "Answer in one word."
        assert "turns" not in short.payload
    source = Source(source="parquet", path=str(write(tmp_path, "verl", "parquet")), preset="verl")
    plain, system, _ = (row.payload for row in read_tasks(source, 0).rows)
    assert "turns" not in plain and system["question"] == "Solve it. What is 5 + 8?"
    assert system["turns"] == [{"role": "system", "content": "You are careful."}]


def test_math_500_has_the_layout_of_math(tmp_path: Path) -> None:
    path = write(tmp_path, "math", "jsonl", MATH_500)
    assert answers(Source(source="jsonl", path=str(path), preset="math")) == ANSWERS["math"]


def test_class_labels_of_mmlu_are_letters(tmp_path: Path) -> None:
    saved = datasets.Dataset.from_list(MMLU, features=MMLU_FEATURES)
    saved.save_to_disk(tmp_path / "saved")
    (tmp_path / "files").mkdir()
    saved.to_parquet(tmp_path / "files" / "train.parquet")
    for folder in ("saved", "files"):
        assert answers(Source(source="hf", path=str(tmp_path / folder), preset="mmlu")) == ["C", "B", "A"]


def test_settings_of_ones_own_win_over_the_preset(tmp_path: Path) -> None:
    source = {
        "source": "jsonl",
        "path": "x",
        "preset": "gsm8k",
        "on_bad_row": "fail",
        "columns": {"id": "uid"},
    }
    own = Source(**source, answer_type="text")
    assert (own.on_bad_row, own.answer_type, own.answer_mark) == ("fail", "text", "####")
    assert (own.columns.id, own.columns.solution) == ("uid", "answer")
    assert Source(**source | {"columns": {"answer": None}}).columns.answer is None
    hub = Source(source="hf", preset="gsm8k", options={"name": "socratic"})
    assert (hub.path, hub.options) == ("openai/gsm8k", {"name": "socratic", "split": "train"})
    elsewhere = Source(source="hf", path="somebody/gsm8k", preset="gsm8k")
    assert elsewhere.options == {}


def test_the_test_split_is_held_out_and_spelled_out_in_the_frozen_recipe(tmp_path: Path) -> None:
    tasks = {"source": "hf", "preset": "gsm8k"}
    recipe = tiny_recipe(tasks=tasks)
    assert recipe.held_out.source.options == {"name": "main", "split": "test"}
    assert tiny_recipe(tasks=tasks, held_out={"count": 5}).held_out.source is not None
    assert tiny_recipe(tasks=tasks, held_out={"share": 0.1}).held_out.source is None
    assert tiny_recipe(tasks=tasks | {"options": {"split": "test"}}).held_out.source is None
    assert tiny_recipe(tasks={"source": "jsonl", "path": "x", "preset": "gsm8k"}).held_out.source is None
    elsewhere = tiny_recipe(
        held_out={"source": tasks}, evaluate={"sets": {"a": tasks, "b": tasks | {"limit": 3}}}
    )
    sources = [elsewhere.held_out.source, *elsewhere.evaluate.sets.values()]
    assert [source.options["split"] for source in sources] == ["test"] * 3 and sources[2].limit == 3
    chosen = tiny_recipe(evaluate={"sets": {"a": tasks | {"options": {"split": "train[:9]"}}}})
    assert chosen.evaluate.sets["a"].options["split"] == "train[:9]"
    (path := tmp_path / "run.yaml").write_text(dump_recipe(recipe))
    assert "answer_mark: '####'" in path.read_text() and "name: main" in path.read_text()
    assert load_recipe(path) == recipe


def test_a_copy_of_the_hub_folder_has_its_configuration_and_splits(tmp_path: Path) -> None:
    folder = tmp_path / "gsm8k"
    (folder / "main").mkdir(parents=True)
    for split, rows in (("train", GSM8K[:2]), ("test", [GSM8K[2], GSM8K[0]])):
        write(tmp_path, "gsm8k", "parquet", rows).rename(folder / "main" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n"
        "  - split: train\n    path: main/train-*\n  - split: test\n    path: main/test-*\n---\n"
    )
    tasks = {"source": "hf", "path": str(folder), "preset": "gsm8k"}
    recipe = tiny_recipe(tasks=tasks)
    assert recipe.tasks.options == {"name": "main", "split": "train"}
    run = RunDir(tmp_path / "run")
    freeze(run, recipe)
    assert [row.payload["answer"] for row in run.rows(run.tasks("train"))] == ["110,000"]
    assert {row.payload["answer"] for row in run.rows(run.tasks("held_out"))} == {"-5", "72"}
    (folder / "README.md").unlink()
    plain = tiny_recipe(tasks=tasks)
    assert plain.tasks.options == {"split": "train"} and plain.held_out.source.options == {"split": "test"}
    assert answers(plain.tasks) == ["72", "110,000"] and answers(plain.held_out.source) == ["-5", "72"]


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"tasks\.preset: unknown preset 'gsm8'\. Did you mean 'gsm8k'\?"):
        tiny_recipe(tasks={"source": "hf", "path": "openai/gsm8k", "preset": "gsm8"})


@pytest.mark.parametrize(
    ("preset", "without", "hint"),
    [
        ("gsm8k", {}, r"Set answer_mark: '####' \(or preset: gsm8k\)"),
        ("math", {"answer_type": "number", "columns": BY_HAND["math"]["columns"]}, "Set answer_mark: boxed"),
        (
            "mmlu",
            {"answer_type": "choice", "columns": {"options": "choices"}},
            "the answer 2 may be the index of an option, from 0 or from 1, or its text; "
            "set answer_is: index0",
        ),
        (
            "verl",
            {"columns": {"question": "prompt", "answer": "reward_model.ground"}},
            "Did you mean columns",
        ),
        (
            "verl",
            {"columns": {"question": "prompt", "answer": "reward_model"}},
            "is an object; expected a text",
        ),
        ("sharegpt", {"columns": {"question": "conversations.0.value.x", "answer": None}}, "is not nested"),
    ],
)
def test_what_the_recipe_lacks_is_said(tmp_path: Path, preset: str, without: dict, hint: str) -> None:
    with pytest.raises(DataError, match=hint):
        read_tasks(Source(source="jsonl", path=str(write(tmp_path, preset, "jsonl")), **without), 0)


def test_presets_read_the_rows_that_others_made() -> None:
    assert set(ROWS) == set(PRESETS) == set(ANSWERS)
