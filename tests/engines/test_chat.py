"""What the vllm engine makes of a model's settled chat, without starting vLLM."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.chat import PLAIN, Chat
from pipeline.chat.format import hidden_tokens
from pipeline.config import VllmEngine
from pipeline.engines.base import Request, Sampling
from pipeline.engines.vllm import VllmClient
from pipeline.models import ModelRef
from tests.chat.stand_in import stand_in, trl_template

ASKED = Request([{"role": "user", "content": "How many?"}])


def client(chat: Chat, template: str = "qwen3") -> Any:
    engine: Any = VllmClient(VllmEngine(), ModelRef("model", "m", "1", chat=chat))
    tokenizer = stand_in(trl_template(template))
    engine._engine = SimpleNamespace(get_tokenizer=lambda: tokenizer)
    return engine


def test_prompts_are_rendered_with_the_run_s_template() -> None:
    for chat, template in ((PLAIN, "qwen3"), (Chat(template=trl_template("gemma")), "gemma")):
        expected = stand_in(trl_template(template)).apply_chat_template(
            ASKED.messages, add_generation_prompt=True, return_dict=False
        )
        assert client(chat)._prompt(ASKED) == {"prompt_token_ids": expected}


def test_further_ends_of_turns_are_stop_tokens_of_conversations() -> None:
    pytest.importorskip("vllm")
    given = Request(ASKED.messages, sampling=Sampling(extra={"stop_token_ids": [5]}))
    ended = client(Chat(stop=(7,)))
    assert ended._params(ASKED).stop_token_ids == [7] and ended._params(given).stop_token_ids == [5, 7]
    assert ended._params(Request(prompt="x")).stop_token_ids == []
    assert client(PLAIN)._params(ASKED) == client(PLAIN)._params(Request(prompt="x"))


def test_special_tags_of_thoughts_stay_in_the_text_and_other_special_tokens_do_not() -> None:
    pytest.importorskip("vllm")
    thinking = client(Chat(thinking="train", special=True))
    assert (
        not thinking._params(ASKED).skip_special_tokens and client(PLAIN)._params(ASKED).skip_special_tokens
    )
    thinking._hidden = hidden_tokens(["[THINK]", "[/THINK]", "</s>"])
    assert thinking._text(ASKED, "[THINK]a[/THINK]b</s>") == "[THINK]a[/THINK]b"


def test_a_thought_that_the_prompt_begins_is_part_of_the_text() -> None:
    thinking = client(Chat(thinking="train", opened="<think>\n"))
    assert thinking._text(ASKED, "a</think>b") == "<think>\na</think>b"
    prefilled = Request(ASKED.messages, prefill="So")
    assert thinking._text(prefilled, " a") == " a" and thinking._text(Request(prompt="x"), "y") == "y"
