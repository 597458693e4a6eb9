"""A thinking model's answers, from the scripted engine to the tokens that TRL trains on, in both ways."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pipeline.chat.settle import settle
from pipeline.engines.base import Completion, Request
from pipeline.engines.scripted import ScriptedClient
from pipeline.methods import load_method
from pipeline.models import ModelRef
from pipeline.publish.dataset import publish
from pipeline.publish.kinds import measure
from pipeline.rows import Dropped, Kept, Row
from pipeline.runner.llm import LLM
from pipeline.stage import STAGES
from pipeline.training.build import build_trainer
from stages.rounds.published_rows import drop_too_long, published_rows
from tests.chat.stand_in import stand_in, trl_template
from tests.conftest import tiny_recipe
from tests.publish.conftest import FACTS

pytestmark = pytest.mark.slow

THOUGHT = "<think>\nThree and four: is it Answer: 6? No.\n</think>\n\n"
SAID = "Counting on from three.\nAnswer: 7"


def think(request: Request, index: int) -> str | Completion:
    """A right answer after a thought, a thought that is cut off, a wrong answer, one with a special token."""
    return [
        THOUGHT + SAID,
        Completion("<think>\nSo Answer: 7", "length", 9, 9),
        THOUGHT + "Answer: 6",
        THOUGHT + "Turns end with <|im_end|>.\nAnswer: 7",
    ][index]


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with Qwen3's chat template."""
    folder = tmp_path_factory.mktemp("models") / "thinking"
    shutil.copytree(tiny_model, folder)
    stand_in(trl_template("qwen3")).save_pretrained(folder)
    return folder


async def through_stages(recipe: Any, chat: Any) -> tuple[list[Row], dict[str, str]]:
    """Return the rows that the four stages keep, and the reasons of those that they drop."""
    engine, method = ScriptedClient(recipe.engine), load_method(recipe)
    payload = {"task_id": "t", "question": "3 + 4?", "answer": "7", "answer_type": "number"}
    rows, dropped = [Row("q", payload)], {}
    for name in STAGES:
        if (stage := method.stages()[name]).row is None:
            continue
        outcomes = [
            await stage.row(row, LLM(engine.generate, row.id, "m@1", recipe.sampling, 1, chat=chat))
            for row in rows
        ]
        dropped |= {o.reason: o.raw for o in outcomes if isinstance(o, Dropped)}
        rows = [row for o in outcomes if isinstance(o, Kept) for row in o.rows]
    return rows, dropped


def prepared(spec: Any, model: ModelRef, rows: Iterable[Row], recipe: Any, folder: Path) -> Any:
    """Publish the rows, and return TRL's dataset of them."""
    tokenizer, method = settle(recipe).tokenizer, load_method(recipe)
    made = published_rows(lambda: iter(list(rows)), 1, recipe, method, chat=model.chat)
    publish(measure(made, tokenizer), folder, FACTS, seed=0)
    trainer = build_trainer(
        {
            "kind": "sft",
            "model": model.path,
            "chat_template": model.chat.template,
            "trust_remote_code": False,
            "datasets": [str(folder)],
            "arguments": {
                "output_dir": spec.work, "use_cpu": True, "max_length": 256, "bf16": False,
                "completion_only_loss": True, "report_to": "none", "train_sampling_strategy": "random",
            },
            "lora": None,
            "precision": "fp32",
            "progress": f"{spec.work}/progress.jsonl",
        }
    )  # fmt: skip
    return trainer.train_dataset


@pytest.mark.parametrize(
    ("thinking", "stored", "asked_end", "trained"),
    [
        (None, THOUGHT, "<|im_start|>assistant\n", THOUGHT + SAID),
        ("train", THOUGHT, "<|im_start|>assistant\n", THOUGHT + SAID),
        ("keep", THOUGHT, "<|im_start|>assistant\n", f"<think>\n\n</think>\n\n{SAID}"),
        ("strip", None, "<|im_start|>assistant\n<think>\n\n</think>\n\n", SAID),
    ],
    ids=["default", "train", "keep", "strip"],
)
async def test_what_is_trained_token_by_token(
    model: Path, make_spec: Any, tmp_path: Path, thinking: Any, stored: Any, asked_end: str, trained: str
) -> None:
    recipe = tiny_recipe(
        model={"base": str(model), "thinking": thinking},
        engine={"kind": "scripted", "answers": "tests.training.test_thinking:think", "tokens": 0},
    )
    settled = settle(recipe)
    rows, dropped = await through_stages(recipe, settled.model.chat)
    assert set(dropped) == {"unfinished_thought", "wrong_answer"} and dropped["wrong_answer"] == "Answer: 6"
    assert rows[0].payload["text"] == SAID and rows[0].payload.get("thought") == stored

    step = drop_too_long(load_method(recipe), settled.tokenizer, 256, settled.model.chat)
    outcomes = [outcome for _, outcome in step(lambda: rows)]
    assert outcomes[0] is None and isinstance(outcomes[1], Dropped)
    assert outcomes[1].reason == "control_token"

    [example] = prepared(make_spec(), settled.model, rows[:1], recipe, tmp_path / "data")
    tokenizer = settled.tokenizer
    head, said = tokenizer.decode([
        i for i, label in zip(example["input_ids"], example["labels"], strict=True) if label == -100
    ]), f"{trained}<|im_end|>\n"  # fmt: skip
    ids = tokenizer(said, add_special_tokens=False)["input_ids"]
    assert head.endswith(asked_end) and example["labels"][-len(ids) :] == ids
    assert len(example["labels"]) - example["labels"].count(-100) == len(ids)
