"""The recipes for real models, from end to end.

Answers are scripted, the model is tiny, and the files are small ones of the same layout.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.common import shipped_recipes
from pipeline.config import Recipe, load_recipe
from pipeline.rundir import RunDir
from pipeline.store import files
from stages.rounds.loop import Loop
from tests.stages.methods.entigraph.inputs import write_inputs
from tests.training.conftest import tiny_model

__all__ = ["tiny_model"]

METHODS = "tests.stages.methods"
SCRIPTS = {
    "gsm8k": "tests.scripted_answers:sums",
    "gsm8k_dpo": "tests.scripted_answers:sums",
    "best_of_n": f"{METHODS}.best_of_n.answers:sure",
    "regenesis": f"{METHODS}.regenesis.answers:whole_round",
    "self": f"{METHODS}.self.answers:skilled",
    "agent_r": f"{METHODS}.agent_r.search.player:play_and_judge",
    "self_lengthen": f"{METHODS}.self_lengthen.answers:writes",
    "entigraph": f"{METHODS}.entigraph.answers:writes",
}
SIZES = ("7b", "laptop")


def gsm8k(folder: Path) -> str:
    """Write a copy of GSM8K's folders with other questions; return its path."""
    for split, first, count in (("train", 1000, 40), ("test", 3000, 10)):
        sums = [(i, i % 7 + 1) for i in range(first, first + count)]
        lines = [
            {
                "question": f"What is {a} + {b}?",
                "answer": f"{a} + {b} = <<{a}+{b}={a + b}>>{a + b}\n#### {a + b:,}",
            }
            for a, b in sums
        ]
        (folder / "gsm8k").mkdir(exist_ok=True)
        (folder / "gsm8k" / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder / "gsm8k")


def math500(folder: Path) -> str:
    """Write two problems in the layout of MATH-500; return the file's path."""
    lines = [
        {
            "problem": f"What is {a} + 1?",
            "solution": f"\\boxed{{{a + 1}}}",
            "answer": str(a + 1),
            "subject": "Algebra",
            "level": 1,
        }
        for a in (8000, 9000)
    ]
    (folder / "math500.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder / "math500.jsonl")


def small(name: str, folder: Path, model: Path) -> Recipe:
    """Return a recipe with its settings, but small data, a tiny model and few steps."""
    text = yaml.safe_load(shipped_recipes()[name].read_text())
    kind = text["method"]["name"]
    text |= {"rounds": 1, "model": {"base": str(model)}}
    text["engine"] = {"kind": "scripted", "answers": SCRIPTS[name.partition("/")[2]]}
    text["train"] |= {"max_steps": 1, "batch_size": 2, "max_length": 256, "precision": "fp32"}
    text["train"]["lora"] = {"r": 4, "alpha": 8}
    text.setdefault("evaluate", {}).update(bootstrap=100, base_model=False)
    text["evaluate"].get("sets", {}).pop("prompts", None)
    text["sampling"]["max_tokens"] = 200
    if "questions_per_round" in text:
        text["questions_per_round"] = 12
    if text["tasks"].get("preset") == "gsm8k":
        text["tasks"]["path"] = gsm8k(folder)
        text["held_out"] = {"count": 8}
    if "math500" in text["evaluate"].get("sets", {}):
        text["evaluate"]["sets"]["math500"] |= {"source": "jsonl", "path": math500(folder)}
    if kind == "agent_r":
        game = {"dataset": f"{METHODS}.agent_r.search.counter:Counter", "options": {"train": 6, "test": 4}}
        text["tasks"] |= game
        del text["demonstrations"]
        text["method"] |= {"depth": 5, "simulations": 4, "alpha": [0.5]}
        text["questions_per_round"] = 3
    if kind == "self_lengthen":
        text["method"] |= {"article_words": 20, "demand_unit": 20, "draft_tries": 2, "attempts": 2}
        text["method"] |= {"instructions": 3, "drafts": 1, "extensions": 1, "length_bias": []}
        text["held_out"], text["questions_per_round"] = {"count": 2}, 3
        text["evaluate"]["max_tokens"] = 200
    if kind == "entigraph":
        given = write_inputs(folder / "inputs")
        text |= {"tasks": given["tasks"], "held_out": given["held_out"]}
        text["train"]["cpt"]["replay"] = given["train"]["cpt"]["replay"]
        text["method"] |= {"max_entities": 3, "max_triples": 2, "token_budget": 4000}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(text))
    return load_recipe(str(folder / "recipe.yaml"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_both_sizes_differ_in_sizes_alone(name: str) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(inner) for key, inner in value.items() if key != "count"}
        return type(value).__name__ if isinstance(value, int | str) else value

    one, other = (
        load_recipe(str(shipped_recipes()[f"{size}/{name}"])).model_dump(mode="json") for size in SIZES
    )
    assert one["model"]["base"] != other["model"]["base"] and one["name"] != other["name"]
    assert shape(one) == shape(other)


@pytest.mark.train
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", [*(f"laptop/{name}" for name in SCRIPTS), "evidence/agent_r"])
def test_a_round_from_data_to_evaluation(
    name: str, in_process: None, tiny_model: Path, tmp_path: Path
) -> None:
    recipe, run = small(name, tmp_path, tiny_model), RunDir(tmp_path / "run")
    asyncio.run(Loop(run, run.freeze(recipe)).iterate(1))
    after = files.read_json(run.evaluation(1))
    assert after["n"] and after["failed"] == 0
    for stage in ("generate", "critique", "filter", "verify"):
        run.manifest(run.stage(1, stage)).check()
    assert run.manifest(run.stage(1, "verify")).rows_out
