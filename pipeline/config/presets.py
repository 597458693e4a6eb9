"""Ready-made settings for the layouts that public data sets are published in: `tasks: {preset: gsm8k}`."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel


class Published(NamedTuple):
    """How a data set is loaded from the Hub: its configuration, and the splits to learn from and to test."""

    name: str | None = None
    train: str = "train"
    test: str | None = None


class Preset(NamedTuple):
    """A layout: which columns hold what, how answers are read, and where it is published, the usual first.

    A file whose columns include `columns_there` may have this layout.
    """

    columns: dict[str, Any]
    settings: dict[str, Any]
    hub: dict[str, Published]
    columns_there: frozenset[str]


_MATH = {"answer_type": "math", "on_bad_row": "skip"}
_CHOICE = {"answer_type": "choice", "on_bad_row": "skip"}
_CODE = {"answer_type": "code", "on_bad_row": "skip"}
_CHAT = {"answer_type": "text", "on_bad_row": "skip"}

PRESETS: dict[str, Preset] = {
    "gsm8k": Preset(
        {"question": "question", "answer": "answer", "solution": "answer"},
        {"answer_type": "number", "answer_mark": "####", "on_bad_row": "skip"},
        {"openai/gsm8k": Published("main", test="test")},
        frozenset({"question", "answer"}),
    ),
    "math": Preset(
        {"question": "problem", "answer": "solution", "solution": "solution"},
        {**_MATH, "answer_mark": "boxed"},
        {
            "DigitalLearningGmbH/MATH-lighteval": Published(test="test"),
            "EleutherAI/hendrycks_math": Published("algebra", test="test"),
            "HuggingFaceH4/MATH-500": Published(train="test"),
        },
        frozenset({"problem", "level", "solution"}),
    ),
    "mmlu": Preset(
        {"question": "question", "options": "choices", "answer": "answer"},
        {**_CHOICE, "answer_is": "index0"},
        {"cais/mmlu": Published("all", train="auxiliary_train", test="test")},
        frozenset({"question", "subject", "choices", "answer"}),
    ),
    "mmlu_pro": Preset(
        {"question": "question", "options": "options", "answer": "answer"},
        {**_CHOICE, "answer_is": "letter"},
        {"TIGER-Lab/MMLU-Pro": Published(train="test")},
        frozenset({"question", "options", "answer", "answer_index", "cot_content"}),
    ),
    "arc": Preset(
        {"question": "question", "options": "choices", "answer": "answerKey"},
        _CHOICE,
        {"allenai/ai2_arc": Published("ARC-Challenge", test="test")},
        frozenset({"question", "choices", "answerKey"}),
    ),
    "verl": Preset(
        {"question": "prompt", "answer": "reward_model.ground_truth"},
        _MATH,
        {"BytedTsinghua-SIA/DAPO-Math-17k": Published()},
        frozenset({"prompt", "reward_model", "data_source"}),
    ),
    "deepscaler": Preset(
        {"question": "problem", "answer": "answer", "solution": "solution"},
        _MATH,
        {"agentica-org/DeepScaleR-Preview-Dataset": Published()},
        frozenset({"problem", "answer", "solution"}),
    ),
    "olympiadbench": Preset(
        {"question": "question", "answer": "final_answer", "solution": "solution"},
        _MATH,
        {"Hothan/OlympiadBench": Published("OE_TO_maths_en_COMP")},
        frozenset({"question", "solution", "final_answer", "is_multiple_answer"}),
    ),
    "humaneval": Preset(
        {"question": "prompt", "answer": None, "tests": "test", "entry_point": "entry_point"},
        _CODE,
        {"openai/openai_humaneval": Published(train="test")},
        frozenset({"task_id", "prompt", "canonical_solution", "test", "entry_point"}),
    ),
    "mbpp": Preset(
        {"question": "text", "answer": None, "tests": "test_list"},
        _CODE,
        {"google-research-datasets/mbpp": Published("full", test="test")},
        frozenset({"task_id", "text", "code", "test_list"}),
    ),
    "apps": Preset(
        {"question": "question", "answer": None, "tests": "input_output"},
        _CODE,
        {"codeparrot/apps": Published(test="test")},
        frozenset({"question", "solutions", "input_output", "difficulty"}),
    ),
    "messages": Preset(
        {"question": "messages", "answer": None, "solution": "messages"},
        _CHAT,
        {"HuggingFaceH4/no_robots": Published(test="test")},
        frozenset({"messages"}),
    ),
    "sharegpt": Preset(
        {"question": "conversations", "answer": None, "solution": "conversations"},
        _CHAT,
        {},
        frozenset({"conversations"}),
    ),
}


def filled(source: Any) -> Any:
    """Return the settings of a `Source` with those of its preset where it has none of its own."""
    preset = PRESETS.get(source["preset"]) if _names_preset(source) else None
    if preset is None:
        return source
    columns = source.get("columns") or {}
    if isinstance(columns, BaseModel):
        columns = columns.model_dump(exclude_unset=True)
    if not isinstance(columns, dict):
        return source
    merged = {**preset.settings, **source, "columns": {**preset.columns, **columns}}
    if source.get("source") == "hf":
        merged["path"] = source.get("path") or next(iter(preset.hub), None)
        found = _published(preset, merged["path"])
        known = {"name": found.name, "split": found.train} if found else {}
        given = source.get("options") or {}
        merged["options"] = {**{k: v for k, v in known.items() if v}, **given}
    return merged


def held_out_source(tasks: Any) -> dict[str, Any] | None:
    """Return the source of the test questions that go with `tasks`, None if its preset has none."""
    if not _names_preset(tasks) or tasks.get("source") != "hf" or tasks["preset"] not in PRESETS:
        return None
    merged = filled(tasks)
    found, options = _published(PRESETS[tasks["preset"]], merged["path"]), merged["options"]
    if found is None or not found.test or str(options.get("split", "train")).split("[")[0] != found.train:
        return None
    return {**merged, "options": {**options, "split": found.test}}


def evaluated_on_test_split(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe whose questions to evaluate with are those of the test split of their preset.

    That is where the recipe does not say otherwise: in held_out, by `share` or by a source of its own, there
    and in evaluate.sets by options.split.
    """
    held_out, evaluate = recipe.get("held_out") or {}, recipe.get("evaluate") or {}
    changed: dict[str, Any] = {}
    if isinstance(held_out, dict) and "source" in held_out:
        changed["held_out"] = {**held_out, "source": _test(held_out["source"])}
    elif (
        isinstance(held_out, dict)
        and "share" not in held_out
        and (tasks := held_out_source(recipe.get("tasks")))
    ):
        changed["held_out"] = {**held_out, "source": {**tasks, "limit": None}}
    if isinstance(evaluate, dict) and isinstance(evaluate.get("sets"), dict):
        sets = {name: _test(source) for name, source in evaluate["sets"].items()}
        changed["evaluate"] = {**evaluate, "sets": sets}
    return {**recipe, **changed}


def _test(source: Any) -> Any:
    says_which = not isinstance(source, dict) or "split" in (source.get("options") or {})
    return source if says_which else held_out_source(source) or source


def _names_preset(source: Any) -> bool:
    return isinstance(source, dict) and isinstance(source.get("preset"), str)


def _published(preset: Preset, path: str | None) -> Published | None:
    """Return how the data set at `path` is loaded: a Hub name, or a folder laid out like the usual one."""
    if not path or not preset.hub:
        return None
    if path in preset.hub or not os.path.isdir(path):
        return preset.hub.get(path)
    usual, names = next(iter(preset.hub.values())), _names_in(Path(path))
    return Published(
        usual.name if usual.name and _has_configuration(Path(path), usual.name) else None,
        usual.train if _any_has(names, usual.train) else "train",
        usual.test if usual.test and _any_has(names, usual.test) else None,
    )


def _has_configuration(folder: Path, name: str) -> bool:
    card = folder / "README.md"
    return card.is_file() and f"config_name: {name}" in card.read_text(encoding="utf-8", errors="replace")


def _names_in(folder: Path) -> set[str]:
    """Return the names of files and folders two levels deep, without endings."""
    return {path.name.split(".")[0] for pattern in ("*", "*/*") for path in folder.glob(pattern)}


def _any_has(names: set[str], split: str) -> bool:
    return any(split == name or name.startswith((f"{split}-", f"{split}_")) for name in names)
