"""What a chat template can do: system messages, thoughts, ends of turns. Found out by rendering samples."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import thoughts
from pipeline.chat.format import PLAIN, Policy
from pipeline.chat.template import SWITCHES, Renderer, effective, read_template, training_template, variables
from pipeline.engines.base import Message
from pipeline.errors import ConfigError, suggest

ASKED: Message = {"role": "user", "content": "How many are three and four?"}
TOLD: Message = {"role": "system", "content": "Count aloud."}
ANSWER = "Three, then four more.\n\nAnswer: 7"
THOUGHT = "Three and four.\nThat is seven."
_REASONING = re.compile(r"reasoning_content|reasoning_effort|message\.thinking|\[['\"]thinking['\"]\]")


class Template:
    """A model's chat template and what it can do."""

    def __init__(self, tokenizer: Any, template: str, kwargs: Mapping[str, Any]) -> None:
        """Raises ConfigError for `kwargs` that the template does not read."""
        self.tokenizer, self.template, self.given = tokenizer, template, dict(kwargs)
        self.variables = variables(template)
        for name in kwargs:
            if name not in self.variables:
                raise ConfigError(
                    f"model.chat_template_kwargs: the chat template reads no {name!r}."
                    f"{suggest(name, self.variables)} It reads: {', '.join(sorted(self.variables))}"
                )
        self.switch = next((name for name in SWITCHES if name in self.variables), None)
        self.thinks = bool(
            self.switch or _REASONING.search(template) or any(mark in template for mark in thoughts.MARKS)
        )
        self.fold, self.apart = False, False
        self.fold = self._drops_system()
        self.tags = next((tags for tags in thoughts.TAGS if any(t in template for t in tags)), PLAIN.tags)
        # Templates that take thoughts in a key of their own: their tags within answers are the usual ones.
        if self.thinks and not self._keeps():
            self.apart = True
            if self._keeps(PLAIN.tags):
                self.tags = PLAIN.tags
            else:
                self.apart = False

    def render(self, **kwargs: Any) -> Renderer:
        """Return a renderer with the recipe's variables, and `kwargs` where the recipe sets none."""
        text = effective(self.template, kwargs | self.given, self.fold, self.apart)
        return Renderer(self.tokenizer, text)

    def policy(self, wanted: Policy | None) -> tuple[Policy, dict[str, Any]]:
        """Return what becomes of thoughts, and the template's variables. Raises ConfigError if the template
        loses the thoughts that are to be trained, or would be trained without the thought it begins.
        """
        if not self.thinks:
            return (wanted or "inline"), {}
        thinking = wanted or self._default()
        on = {} if self.switch is None else {self.switch: thinking != "strip"}
        # Unchanged where the template does by itself what is wanted.
        kwargs = on if (wanted or thinking == "strip") and not self._same(on) else {}
        self.apart = self.apart and thinking == "train"
        if thinking == "train" and not keeps_thought(self.render(**kwargs), self.tags):
            raise ConfigError(
                "model.thinking: train needs a chat template that renders the thoughts of an answer, and "
                f"this one removes or refuses them.{self._remedy()} Or set model.thinking: strip."
            )
        return thinking, kwargs

    def notes(self, wanted: Policy | None, thinking: Policy) -> list[str]:
        """Return lines about what is unlike a plain model."""
        lines = []
        if self.thinks or wanted:
            why = {
                "strip": "off; the chat template does not think by itself, or keeps no thoughts in answers",
                "train": "trained with the answers; the chat template keeps them",
            }
            said = {
                "strip": "off, and thrown away where they occur",
                "keep": "stored with the answers, not trained",
                "train": "trained with the answers",
            }
            chosen = said[thinking] if wanted else f"{why[thinking]} (model.thinking)"
            lines.append(f"thinking: {chosen}")
        if self.fold:
            lines.append("system messages: the chat template has none, so they go in front of the user's")
        return lines

    def _default(self) -> Policy:
        plain = self.render()
        if self.switch in self.given:
            off = not self.given[self.switch]
        else:
            off = self.switch is not None and self._same({self.switch: False})
        if off:
            return "strip"
        if keeps_thought(plain, self.tags):
            return "train"
        if opened(plain):
            raise ConfigError(
                "model.thinking: the chat template begins a thought in every question and removes it from "
                f"trained answers, which would then not fit.{self._remedy()} Or set model.thinking: strip, "
                "to train on the answers alone."
            )
        return "strip"

    def _keeps(self, tags: tuple[str, str] | None = None) -> bool:
        on = {} if self.switch is None else {self.switch: True}
        return keeps_thought(self.render(**on), tags or self.tags)

    def _same(self, kwargs: dict[str, Any]) -> bool:
        one, other = self.render(), self.render(**kwargs)
        samples = ([ASKED], True), ([ASKED, said(ANSWER)], False)
        return not any(one.refusal(*s) or one.text(*s) != other.text(*s) for s in samples)

    def _drops_system(self) -> bool:
        """Tell whether the template refuses or drops a system message, but takes a user's."""
        plain = self.render()
        if plain.refusal([ASKED], generation=True) or ASKED["content"] not in plain.text([ASKED], True):
            return False
        told = [TOLD, ASKED]
        return bool(plain.refusal(told, True)) or TOLD["content"] not in plain.text(told, True)

    def _remedy(self) -> str:
        name = training_template(self.template)
        kept = name and keeps_thought(Renderer(self.tokenizer, read_template(name, Path())), self.tags)
        return remedy(name if kept else None)


def keeps_thought(render: Renderer, tags: tuple[str, str]) -> bool:
    """Tell whether a trained answer contains its thought once, after what the engine's prompt ends with."""
    answer = said(replace(PLAIN, tags=tags, thinking="train").tagged(THOUGHT) + ANSWER)
    if render.refusal([ASKED, answer]) or render.refusal([ASKED], True):
        return False
    whole, prompt = render.text([ASKED, answer]), render.text([ASKED], True)
    reply = whole.rpartition(ASKED["content"])[2]
    parts = (*THOUGHT.split("\n"), ANSWER)
    once = all(reply.count(part) == 1 for part in parts) and reply.count("</think>") <= 1
    return once and whole.startswith(prompt)


def opened(render: Renderer) -> str:
    """Return the beginning of a thought with which the generation prompt ends; "" if it begins none."""
    tail = _tail(render)
    start = max((tail.rindex(begin) for begin, _ in thoughts.TAGS if begin in tail), default=-1)
    return tail[start:] if start >= 0 and thoughts.unfinished(tail[start:]) else ""


def remedy(name: str | None) -> str:
    """Return what to do about a template; `name` is TRL's version of it."""
    return (
        f" Set model.chat_template: {name} (TRL's version)."
        if name
        else " Set model.chat_template to another."
    )


def said(content: str) -> Message:
    """Return an answer as a message."""
    return {"role": "assistant", "content": content}


def _tail(render: Renderer) -> str:
    """Return the generation prompt after the user's question."""
    if render.refusal([ASKED], generation=True):
        return ""
    return render.text([ASKED], generation=True).rpartition(ASKED["content"])[2]


def end_of_turn(render: Renderer, stops: set[int]) -> tuple[str, tuple[int, ...]]:
    """Return the token that ends an answer ("": none does), and its id unless an engine stops there anyway.

    `stops` are the tokens at which it does.
    """
    tokenizer = render.tokenizer
    if render.refusal([ASKED, said(ANSWER)]):
        return "", ()
    after = render.text([ASKED, said(ANSWER)]).rpartition(ANSWER)[2]
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    ends = [i for i in ids if i in stops] or [i for i in ids if i in tokenizer.added_tokens_decoder]
    if not ends:
        return "", ()
    return tokenizer.convert_ids_to_tokens(ends[0]), () if ends[0] in stops else (ends[0],)
