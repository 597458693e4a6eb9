"""What is settled about a model's conversations, by its template and the recipe."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.chat import PLAIN
from pipeline.chat.settle import Settled, settle
from pipeline.errors import ConfigError
from tests.chat.stand_in import stand_in, trl_template
from tests.conftest import tiny_recipe

ASK = [{"role": "user", "content": "How many?"}]
Make = Callable[..., Settled]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A function from a template and settings of `model` to the settled model, which stops at `eos`."""

    def settled(template: str, kind: str = "sft", eos: str = "<|im_end|>", **model: Any) -> Settled:
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        tokenizer = stand_in(template, eos)
        # Reading one from a folder takes a second.
        monkeypatch.setattr("pipeline.chat.settle.load_tokenizer", lambda *_: tokenizer)
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"")
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": tokenizer.eos_token_id}))
        extra = model.pop("extra", {})
        recipe = tiny_recipe(model={"base": str(folder), **model}, sampling={"extra": extra})
        return settle(recipe, kind)

    return settled


def prompt(settled: Settled) -> str:
    return settled.tokenizer.apply_chat_template(ASK, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize("name", ["qwen2_5", "lfm2", "qwen3_instruct_2507"])
@pytest.mark.parametrize("kind", ["sft", "turns"])
def test_a_plain_model_is_left_alone(make: Make, name: str, kind: str) -> None:
    settled = make(trl_template(name), kind)
    assert settled.model.chat == PLAIN and settled.notes == ()
    assert settled.model.label == f"{settled.model.name}@{settled.model.revision[:12]}"
    assert settled.tokenizer.chat_template == trl_template(name)


def test_a_thinking_template_trains_thoughts_by_default(make: Make) -> None:
    settled = make(trl_template("qwen3"))
    assert settled.model.chat.thinking == "train" and settled.model.chat.template == ""
    assert settled.notes == (
        "thinking: trained with the answers; the chat template keeps them (model.thinking)",
    )
    assert settled.model.label.endswith(f"+{settled.model.chat.digest}")


def test_strip_turns_the_switch_off_unless_the_recipe_says_otherwise(make: Make) -> None:
    settled = make(trl_template("qwen3"), thinking="strip")
    assert prompt(settled).endswith("assistant\n<think>\n\n</think>\n\n")
    assert settled.model.chat.template == settled.tokenizer.chat_template
    on = make(trl_template("qwen3"), thinking="strip", chat_template_kwargs={"enable_thinking": True})
    assert prompt(on).endswith("assistant\n") and on.model.chat.thinking == "strip"


def test_keep_turns_the_switch_on(make: Make) -> None:
    closed = prompt(make(trl_template("qwen3_5_nothink")))
    kept = make(trl_template("qwen3_5_nothink"), thinking="keep")
    assert closed.endswith("</think>\n\n") and prompt(kept).endswith("assistant\n<think>\n")
    assert kept.model.chat.opened == "<think>\n"


def test_variables_reach_the_template_and_an_unknown_one_is_named(make: Make) -> None:
    settled = make(trl_template("qwen3"), chat_template_kwargs={"enable_thinking": False})
    assert prompt(settled).endswith("</think>\n\n") and settled.model.chat.thinking == "strip"
    assert json.loads(settled.model.chat.kwargs) == {"enable_thinking": False}
    on = make(trl_template("gemma4_v5"), chat_template_kwargs={"enable_thinking": True})
    assert on.model.chat.thinking == "train"
    with pytest.raises(ConfigError, match=r"reads no 'enable_thinkin'\. Did you mean 'enable_thinking'\?"):
        make(trl_template("qwen3"), chat_template_kwargs={"enable_thinkin": False})


def test_a_template_that_deletes_the_thoughts_it_begins_is_refused_with_the_remedy(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"model\.chat_template: deepseek_r1_distill_training"):
        make(trl_template("deepseek_r1_distill"))
    with pytest.raises(ConfigError, match="removes or refuses"):
        make(trl_template("deepseek_r1_distill"), thinking="train")
    assert make(trl_template("deepseek_r1_distill"), thinking="strip").model.chat.thinking == "strip"
    mended = make(
        trl_template("deepseek_r1_distill"), chat_template=trl_template("deepseek_r1_distill_training")
    )
    assert (mended.model.chat.thinking, mended.model.chat.opened) == ("train", "<think>\n")


@pytest.mark.parametrize("name", ["qwen3_8", "gptoss"])
def test_thoughts_are_handed_over_in_a_key_of_their_own(make: Make, name: str) -> None:
    settled = make(trl_template(name))
    said = {"role": "assistant", "content": "<think>\nBy counting.\n</think>\n\nSeven."}
    whole = settled.tokenizer.apply_chat_template([*ASK, said], tokenize=False)
    assert settled.model.chat.thinking == "train" and whole.startswith(prompt(settled))
    assert whole.count("By counting.") == whole.count("Seven.") == 1


def test_special_tags_are_noticed(make: Make) -> None:
    assert make(trl_template("gptoss")).model.chat.special
    assert not make(trl_template("qwen3")).model.chat.special


def test_a_template_without_a_system_role(make: Make) -> None:
    settled = make(trl_template("gemma"))
    messages = [{"role": "system", "content": "Be brief."}, *ASK]
    assert "user\nBe brief.\n\nHow many?" in settled.tokenizer.apply_chat_template(messages, tokenize=False)
    assert any(note.startswith("system messages: ") for note in settled.notes)


def test_an_end_of_turn_that_the_model_does_not_stop_at(make: Make) -> None:
    """A base model with a chat template, as it is often saved."""
    settled = make(trl_template("qwen2_5"), eos="<|endoftext|>")
    end = settled.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert settled.model.chat.stop == (end,)
    assert any("ends answers with <|im_end|>; the engine stops at it, too" in note for note in settled.notes)
    assert (
        make(trl_template("qwen2_5"), eos="<|endoftext|>", extra={"stop_token_ids": [end]}).model.chat
        == PLAIN
    )


def test_conversations_are_trained_without_thoughts(make: Make) -> None:
    assert make(trl_template("qwen3"), "turns").model.chat.thinking == "strip"


def test_a_model_that_selfloop_saved_is_settled_alike(make: Make) -> None:
    first = make(trl_template("qwen3"), thinking="strip")
    again = make(first.tokenizer.chat_template, thinking="strip")
    assert prompt(again) == prompt(first)


def test_without_a_template_nothing_is_settled(make: Make) -> None:
    assert make("").model.chat == PLAIN


def test_without_a_tokenizer_nothing_is_settled(tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    assert settle(tiny_recipe(model={"base": str(folder)})).tokenizer is None
