"""A chat template that cannot carry a run is refused before the first request."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_recipe
from pipeline.errors import ConfigError
from pipeline.rundir import RunDir
from stages.rounds.loop import Loop
from tests.chat.stand_in import stand_in, trl_template

RECIPES = Path(__file__).parents[3] / "jobs" / "recipes"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function from a recipe and one of TRL's templates to the base model of its loop."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")

    def make(recipe: str, template: str, *changes: str) -> Any:
        tokenizer = stand_in(trl_template(template))
        monkeypatch.setattr("pipeline.chat.settle.load_tokenizer", lambda *_: tokenizer)
        (folder / "generation_config.json").write_text(f'{{"name": "{template}"}}')  # another revision
        loaded = load_recipe(RECIPES / f"{recipe}.yaml", [f"model.base={folder}", *changes])
        return Loop(RunDir(tmp_path / "run"), loaded).base

    return make


def test_examples_need_an_end_of_turn(base: Any) -> None:
    with pytest.raises(ConfigError, match=r"no token of its own.*model\.chat_template: glm4moe_training"):
        base("quickstart", "glm4moe")


def test_episodes_need_a_template_that_only_appends(base: Any) -> None:
    with pytest.raises(ConfigError, match=r"renders turn .* differently.*chat_template: qwen3_training"):
        base("agent_r", "qwen3")
    with pytest.raises(ConfigError, match="thinking: train is for single answers"):
        base("agent_r", "qwen3_training", "model.thinking=train")
    assert base("agent_r", "qwen3_training").chat.thinking == "strip"


def test_what_is_unusual_is_said_once(base: Any, capsys: pytest.CaptureFixture[str]) -> None:
    base("quickstart", "gemma")
    assert "system messages: the chat template has none" in capsys.readouterr().out
    base("quickstart", "qwen2_5")
    assert capsys.readouterr().out == ""
