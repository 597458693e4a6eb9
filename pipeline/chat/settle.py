"""Settles how a run's conversations are written: template, thoughts, system messages, and ends of turns."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pipeline import thoughts
from pipeline.chat.abilities import Template, end_of_turn, opened
from pipeline.chat.format import Chat, Policy
from pipeline.chat.template import load_tokenizer
from pipeline.models import ModelRef, resolve_model
from pipeline.store.files import read_json

if TYPE_CHECKING:
    from pipeline.config.recipe import Recipe


@dataclass(frozen=True)
class Settled:
    """A model with its settled chat, its tokenizer (None: it has none), and what is to be said about it."""

    model: ModelRef
    tokenizer: Any = None
    notes: tuple[str, ...] = ()


def settle(recipe: "Recipe", kind: str = "sft") -> Settled:
    """Return the recipe's model with its chat settled, for a method that publishes this `kind` of dataset.

    Raises ConfigError for settings that cannot work.
    """
    model, stop = recipe.model, recipe.sampling.extra.get("stop_token_ids") or ()
    given = orjson.dumps(model.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    return _settled(resolve_model(model.base, model.revision), given, tuple(stop), kind == "turns")


def at_endpoint(recipe: "Recipe") -> ModelRef:
    """Return what stands for the model of an endpoint, which is not on this machine: it has no path.

    Of the recipe's model, which is not looked up, it has the variables of the chat template.
    """
    model = recipe.model
    chat = Chat(kwargs=_json(model.chat_template_kwargs), thinking=model.thinking or "unsettled")
    return ModelRef("", recipe.model.base, "", chat=chat)


@lru_cache(maxsize=4)
def _settled(model: ModelRef, settings: bytes, stop: tuple[int, ...], turns: bool) -> Settled:
    given = orjson.loads(settings)
    tokenizer = load_tokenizer(model.path, "", given["trust_remote_code"])
    if tokenizer is None or not (given["chat_template"] or tokenizer.chat_template):
        return Settled(model, tokenizer)
    own = tokenizer.get_chat_template() if tokenizer.chat_template else ""
    found = Template(tokenizer, given["chat_template"] or own, given["chat_template_kwargs"])
    wanted: Policy | None = given["thinking"]
    # Conversations of many turns are trained without thoughts.
    thinking, kwargs = found.policy("strip" if turns and found.thinks and wanted is None else wanted)
    render = found.render(**kwargs)
    end, further = end_of_turn(render, stop_ids(model.path, tokenizer) | set(stop))
    chat = Chat(
        template="" if render.template == own else render.template,
        kwargs=_json(given["chat_template_kwargs"]),
        thinking=thinking,
        tags=found.tags,
        opened=opened(render),
        special=found.thinks and _special(tokenizer, found.template),
        stop=further,
    )
    tokenizer.chat_template = render.template
    notes = found.notes(wanted, thinking)
    if further:
        notes.append(f"end of turn: the chat template ends answers with {end}; the engine stops at it, too")
    return Settled(replace(model, chat=chat), tokenizer, tuple(notes))


def stop_ids(path: str, tokenizer: Any) -> set[int]:
    """Return the ids of the tokens at which an engine ends an answer of this model."""
    file = Path(path) / "generation_config.json"
    configured = read_json(str(file)).get("eos_token_id") if file.exists() else None
    listed = configured if isinstance(configured, list) else [configured]
    return {i for i in (*listed, tokenizer.eos_token_id) if i is not None}


def _special(tokenizer: Any, template: str) -> bool:
    """Tell whether a template delimits thoughts by special tokens."""
    marks = [mark for mark in thoughts.MARKS if mark in template]
    tokens = (token for token in tokenizer.added_tokens_decoder.values() if token.special)
    return any(token.content in mark for token in tokens for mark in marks)


def _json(kwargs: dict[str, Any]) -> str:
    return orjson.dumps(kwargs, option=orjson.OPT_SORT_KEYS).decode()
