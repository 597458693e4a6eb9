"""What a run has settled about a model's conversations, and how an answer divides into thought and text."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import orjson

from pipeline import thoughts
from pipeline.engines.base import Completion, Message

UNFINISHED = "unfinished_thought"  # finish reason of an answer that was cut off within its thought
Policy = Literal["inline", "unsettled", "strip", "keep", "train"]
_GAP = "\n\n"  # between a thought and its answer, where the model has not written its own


@dataclass(slots=True, frozen=True)
class Chat:
    """How conversations with one model are written. The default is a plain model: nothing is changed.

    `thinking` is model.thinking, resolved; "inline" is that of a template without thoughts of its own: what
    the model writes between thought tags is divided off and trained with its answer again. "unsettled" is
    that of an endpoint: whether its thoughts are trained is settled with the trained model's template, when
    they are published. Until then they are stored as they came, those that came apart without tags.
    """

    template: str = ""  # Jinja text in place of the model's own; "": its own
    kwargs: str = "{}"  # the recipe's model.chat_template_kwargs, JSON: for endpoints
    thinking: Policy = "inline"
    tags: tuple[str, str] = thoughts.TAGS[0]  # how the template delimits thoughts
    opened: str = ""  # the beginning of a thought with which the generation prompt ends
    special: bool = False  # the tags are special tokens, which engines leave out of texts
    stop: tuple[int, ...] = ()  # further token ids that end a turn

    @property
    def digest(self) -> str:
        """8 hex digits for names, fingerprints and keys; "" for a plain model, whose runs have none."""
        data = orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)
        return "" if self == PLAIN else hashlib.sha256(data).hexdigest()[:8]

    def divided(self, completion: Completion) -> Completion:
        """Return the completion with its thought taken out of `text`, and kept in `thought` by `thinking`.

        An answer that is cut off within its thought gets the finish reason UNFINISHED.
        """
        text, apart = completion.text, completion.thought
        inline = self.thinking in ("inline", "unsettled")
        if not (thoughts.begins(text) if inline else thoughts.occurs(text)):
            if not apart:
                return completion
            cut = not text.strip() and completion.finish_reason != "stop"
            thought = "" if self.thinking == "inline" else apart if inline else self.tagged(apart)
        else:
            cut, (thought, answer) = thoughts.unfinished(text), thoughts.split(text)
            follows = text.startswith(thought)
            gap = answer[: len(answer) - len(answer.lstrip())] if follows else _GAP
            thought, text = self.tagged(thought, gap), answer.strip()
        keep = thought if not cut and self.thinking != "strip" else ""
        reason = UNFINISHED if cut else completion.finish_reason
        return replace(completion, text=text, thought=keep or None, finish_reason=reason)

    def completion(self, messages: Sequence[Message], answer: Mapping[str, Any]) -> list[Message]:
        """Return an example's completion as it is trained; `answer` is its row's payload.

        With "train" the message that says the payload's `text` gets the payload's `thought`, in this
        template's tags; with "inline" too, unless it came apart. Otherwise no message keeps a thought.
        """
        if self.thinking in ("strip", "keep"):
            return [
                {**m, "content": thoughts.without(m["content"])} if thoughts.occurs(m["content"]) else m
                for m in messages
            ]
        thought = str(answer.get("thought") or "")
        if self.thinking == "train":
            inner = thought.rstrip()
            thought = self.tagged(inner, thought[len(inner) :])
        elif not thoughts.occurs(thought):
            thought = ""
        if not thought:
            return list(messages)
        said = str(answer.get("text", "")).strip()
        return [
            {**m, "content": thought + m["content"]}
            if m["role"] == "assistant" and m["content"].strip() == said
            else m
            for m in messages
        ]

    def tagged(self, thought: str, gap: str = _GAP) -> str:
        """Return a thought within this template's tags, which it may have already, and `gap`."""
        begin, end = self.tags
        if not (inner := thoughts.inner(thought)):
            return ""
        fitting = thoughts.TAGS if self.thinking in ("inline", "unsettled") else (self.tags,)
        own = any(thought.startswith(tags[0]) and thought.endswith(tags[1]) for tags in fitting)
        return thought + gap if own else f"{begin}\n{inner}\n{end}{gap or _GAP}"


def hidden_tokens(special_tokens: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of the special tokens that are no part of a thought's tags."""
    others = {t for t in special_tokens if t and not any(t in mark for mark in thoughts.MARKS)}
    others |= (
        {"<|start|>assistant"} if "<|start|>" in others else set()
    )  # gpt-oss: between thought and answer
    return re.compile("|".join(map(re.escape, sorted(others, key=len, reverse=True))) or r"(?!)")


PLAIN = Chat()
