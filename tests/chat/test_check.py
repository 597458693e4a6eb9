"""The check before the first request, on the chat templates that TRL and vLLM ship."""

from typing import Any

import pytest

from pipeline.chat import PLAIN
from pipeline.chat.abilities import ASKED, TOLD
from pipeline.chat.check import check, control_token
from pipeline.chat.settle import Settled
from pipeline.errors import ConfigError
from pipeline.models import ModelRef
from pipeline.thoughts import MARKS
from tests.benchmarks.chat_templates import Verdict, verdict
from tests.chat.stand_in import shipped_templates, stand_in, trl_template

TABLE = {
    "qwen2_5": ("native", "none", "`<|im_end|>`", "yes", "yes"),
    "qwen3": ("native", "kept", "`<|im_end|>`", "yes", "no: rewrites earlier turns; `qwen3_training`"),
    "qwen3_training": ("native", "kept", "`<|im_end|>`", "yes", "yes"),
    "qwen3_5_think": (
        *("native", "kept", "`<|im_end|>`", "yes"),
        "no: rewrites earlier turns; `qwen3_5_think_training`",
    ),
    "qwen3_5_nothink": (
        *("native", "off", "`<|im_end|>`", "yes"),
        "no: rewrites earlier turns; `qwen3_5_nothink_training`",
    ),
    "qwen3_8": ("native", "kept", "`<|im_end|>`", "yes", "yes"),
    "deepseek_r1_distill": (
        *("native", "lost", "`<\uff5cend▁of▁sentence\uff5c>`"),
        *("no: loses thoughts; `deepseek_r1_distill_training`", "no: rewrites earlier turns"),
    ),
    "gemma": ("folded", "none", "`<end_of_turn>`", "yes", "yes"),
    "gemma3": ("native", "none", "`<end_of_turn>`", "yes", "yes"),
    "llama3": ("native", "none", "`<|eot_id|>`", "yes", "yes"),
    "phi3": ("native", "none", "`<|end|>`", "yes", "no: rewrites earlier turns"),
    "glm4moe": (
        *("native", "kept", "none"),
        *["no: no end token; `glm4moe_training`"] * 2,
    ),
    "gptoss": ("native", "kept", "`<|return|>`", "yes", "no: rewrites earlier turns"),
    "nemotron_3_nano": ("native", "kept", "`<|im_end|>`", "yes", "yes"),
    "smolvlm": ("-", "-", "`<|im_start|>`", *["no: for lists of texts and images"] * 2),
    "template_chatml": ("native", "none", "none", *["no: no end token"] * 2),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_a_template_can_do(name: str) -> None:
    assert verdict(name, shipped_templates()[name]) == Verdict(*TABLE[name])


def checked(template: str, question: Any = None, kind: str = "sft", **settings: Any) -> list[str]:
    tokenizer = stand_in(template)
    return check(Settled(ModelRef("", "mine", ""), tokenizer), question or [TOLD, ASKED], kind, **settings)


def test_no_template_is_one_sentence_with_the_remedy() -> None:
    with pytest.raises(
        ConfigError, match=r"mine has no chat template, .*Set model\.chat_template to a Jinja file"
    ):
        checked("")


def test_a_question_that_is_refused_or_dropped() -> None:
    again = [ASKED, ASKED]  # Gemma's turns must alternate
    with pytest.raises(ConfigError, match="refuses the method's question: Conversation roles must alternate"):
        checked(trl_template("gemma"), again)
    with pytest.raises(ConfigError, match=r"drops a message's text \('Count aloud"):
        checked("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}")


def test_nothing_of_answers_is_checked_where_none_is_trained() -> None:
    assert checked(trl_template("glm4moe"), trains=False) == []


def test_an_answer_that_is_cut() -> None:
    cuts = (
        "{% for m in messages %}{{ m.content[:20] if m.role == 'assistant' else m.content }}"
        "<|im_end|>{% endfor %}"
    )
    with pytest.raises(ConfigError, match="drops a part of an answer"):
        checked(cuts)


def test_a_question_s_end_that_examples_lack_is_said() -> None:
    tokenizer = stand_in(trl_template("deepseek_r1_distill"))
    [note] = check(Settled(ModelRef("", "mine", "", chat=PLAIN), tokenizer), [TOLD, ASKED], "sft")
    assert note == "chat template: questions end with '<think>', which it leaves out of trained examples"


def test_a_model_without_a_tokenizer_is_not_checked() -> None:
    assert check(Settled(ModelRef("", "mine", "")), [ASKED], "sft") == []


@pytest.mark.parametrize("name", ["qwen2_5", "llama3", "gemma", "deepseek_r1_distill"])
def test_special_tokens_in_answers_are_found(name: str) -> None:
    tokenizer = stand_in(trl_template(name))
    for token in tokenizer.added_tokens_decoder.values():
        found = control_token(tokenizer, f"So {token.content}\nAnswer: 3")
        assert found == (token.content if token.special and token.content not in MARKS else None)
    assert control_token(tokenizer, "<think>a < b</think> and [1] <b>3</b>") is None
