"""What is checked before the first request: that a model's chat template can carry a run's conversations."""

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline import thoughts
from pipeline.chat.abilities import ANSWER, end_of_turn, remedy, said
from pipeline.chat.settle import Settled
from pipeline.chat.template import REFUSALS, Renderer, additions, read_template, training_template
from pipeline.engines.base import Message
from pipeline.errors import ConfigError, DataError
from pipeline.publish.loss_mask import mask_turns

_AGAIN: Message = {"role": "user", "content": "And five more?"}


def check(settled: Settled, question: list[Message], kind: str, trains: bool = True) -> list[str]:
    """Raise ConfigError unless the template renders `question` and answers of this `kind` of dataset whole,
    and ends them. Return lines about what is unusual. Takes milliseconds.

    `question` is one as the method asks it. With `trains` false, nothing is trained in chats.
    """
    model, tokenizer = settled.model, settled.tokenizer
    if tokenizer is None:
        return []
    if not tokenizer.chat_template:
        raise ConfigError(
            f"model.base: {model.name} has no chat template, so it cannot be asked. Set model.chat_template "
            "to a Jinja file, or to a template of TRL's, such as qwen2_5."
        )
    render = Renderer(tokenizer, tokenizer.chat_template)
    if why := render.refusal(question, generation=True):
        raise ConfigError(f"the chat template of {model.name} refuses the method's question: {why}")
    asked = render.text(question, generation=True)
    if lost := next((m["content"] for m in question if m["content"].strip() not in asked), None):
        raise ConfigError(
            f"the chat template of {model.name} drops a message's text ({lost[:60]!r}); it may be one for "
            "lists of texts and images. Set model.chat_template to another."
        )
    if not trains:
        return []
    if kind == "turns":
        _check_turns(settled, render, question)
    return _check_answer(settled, render, question, asked)


def control_token(tokenizer: Any, text: str) -> str | None:
    """Return the first special token of `tokenizer` that a text spells out, such as <|im_end|>, or None.

    In training it would end the turn, or begin another. Tags of thoughts are none.
    """
    found = _control_tokens(tokenizer).search(text)
    return found[0] if found else None


@lru_cache(maxsize=2)
def _control_tokens(tokenizer: Any) -> re.Pattern[str]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    tokens = {token.content for token in added.values() if token.special}
    spelled = sorted((t for t in tokens if t.strip() and t not in thoughts.MARKS), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, spelled)) or r"(?!)")


def _check_answer(settled: Settled, render: Renderer, question: list[Message], asked: str) -> list[str]:
    """Check an example of one answer. Return lines about what is unusual."""
    name, chat = settled.model.name, settled.model.chat
    thought = chat.tagged("Three and four.") if chat.thinking == "train" else ""
    answer = said(thought + ANSWER)
    if why := render.refusal([*question, answer]):
        raise ConfigError(f"the chat template of {name} refuses an answer: {why}{remedy(None)}")
    whole = render.text([*question, answer])
    if ANSWER not in whole or (thought and "Three and four." not in whole):
        raise ConfigError(f"the chat template of {name} drops a part of an answer.{remedy(None)}")
    if not _ends(render):
        raise ConfigError(
            f"the chat template of {name} ends an answer with no token of its own, so a trained model would "
            f"not stop.{_remedy(render, _ends)}"
        )
    same = next((i for i, (a, b) in enumerate(zip(asked, whole, strict=False)) if a != b), len(asked))
    if left := asked[same:].strip():
        return [f"chat template: questions end with {left!r}, which it leaves out of trained examples"]
    return []


def _check_turns(settled: Settled, render: Renderer, question: list[Message]) -> None:
    """Check that single turns of a conversation can be trained."""
    turns = [*question, said("Seven."), _AGAIN, said("Twelve.")]
    if why := _unmasked(render, turns):
        raise ConfigError(f"{why}{_remedy(render, lambda other: not _unmasked(other, turns))}")
    if settled.model.chat.thinking == "train":
        raise ConfigError(
            "model.thinking: train is for single answers; this method trains conversations of many turns, "
            "without thoughts. Set model.thinking to strip or keep."
        )


def _unmasked(render: Renderer, messages: list[Message]) -> str:
    """Return why single turns of a conversation cannot be trained; "" if they can."""
    try:
        mask_turns(render, [{**m, "loss": m["role"] == "assistant"} for m in messages])
    except (DataError, *REFUSALS) as e:
        return str(e)
    return ""


def _ends(render: Renderer) -> bool:
    return bool(end_of_turn(render, set())[0])


def _remedy(render: Renderer, mended: Callable[[Renderer], bool]) -> str:
    """Name TRL's version of the template for training, if it is `mended`."""
    added, own = additions(render.template)
    if name := training_template(own):
        other = Renderer(render.tokenizer, added + read_template(name, Path()))
        return remedy(name if mended(other) else None)
    return remedy(None)
