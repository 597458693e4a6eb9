"""What a method is: four stages, how its question is asked, and how verified rows become training examples.

What a method may do beyond that is in pipeline/protocols.py.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from pipeline import registry
from pipeline.engines.base import Message
from pipeline.errors import ConfigError, SelfloopError, raised_at
from pipeline.prompts import Prompts
from pipeline.rows import Row
from pipeline.stage import STAGES, Stage

__all__ = ["Example", "Method", "Options", "Stage", "load_method", "method_class", "method_stage"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Options(BaseModel):
    """Base of every method's options: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    # By value of the option `preset`: defaults of other options.
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    # Options that runs of older versions lack: at their default they are no part of a fingerprint.
    late: ClassVar[tuple[str, ...]] = ()
    # What a run.yaml without the option meant when it was written: options whose default does something else.
    former: ClassVar[dict[str, Any]] = {}
    name: str

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, data: Any) -> Any:
        if not (cls.presets and isinstance(data, dict)):
            return data
        preset = data.get("preset", cls.model_fields["preset"].default)
        return _over(cls.presets.get(preset, {}), data) if isinstance(preset, str) else data

    @classmethod
    def of_preset(cls, preset: Any = None) -> dict[str, Any]:
        """Return the values of the options that presets set, under `preset` (default: the default preset)."""
        if not cls.presets:
            return {}
        chosen = cls.presets.get(
            preset if isinstance(preset, str) else cls.model_fields["preset"].default, {}
        )
        keys = {key for options in cls.presets.values() for key in options}
        return {key: chosen.get(key, cls.model_fields[key].default) for key in keys}

    def fingerprint(self) -> dict[str, Any]:
        """Return what outcomes depend on, as JSON."""
        known = type(self).model_fields
        absent = {key for key in self.late if getattr(self, key) == known[key].default}
        return self.model_dump(mode="json", exclude=absent)


def _over(preset: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return `given` with what it leaves out, in its sections too, taken from `preset`."""
    merged = {**preset, **given}
    for key, value in preset.items():
        if isinstance(value, dict) and isinstance(given.get(key), dict):
            merged[key] = _over(value, given[key])
    return merged


@dataclass(slots=True, frozen=True)
class Example:
    """One supervised example in conversational prompt-completion form; the loss falls on `completion` only.

    For a method whose `dataset` is "turns", `completion` is the rest of a conversation, `learn` says for each
    of its messages whether the loss falls on it, and `record` names the kind of example.
    """

    prompt: list[Message]
    completion: list[Message]
    learn: tuple[bool, ...] = ()
    record: str = ""
    role: str = ""  # which of the method's roles trains on it
    sampling: Any = None  # sampling parameters (JSON), where they differ from the row's


class Method(ABC):
    """Base of methods: a subclass sets `name` and `Options` and defines three methods. The rest of what it
    may say is optional.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Options]]
    dataset: ClassVar[str] = "sft"
    """The kind of dataset its rows are published as (pipeline/publish/kinds.py)."""
    lineage: ClassVar[dict[str, str]] = {}
    """Payload keys published as columns src_<key>, each with its type, "string" or "strings"."""
    roles: ClassVar[tuple[str, ...]] = ()
    """Parts that the model plays; each can have an adapter (train.adapters)."""
    measured: ClassVar[str] = "accuracy"
    """What evaluation measures, for titles."""
    may_change: ClassVar[tuple[str, ...]] = ()
    """Options that no outcome depends on: they may differ when a run resumes."""
    engine_options: ClassVar[tuple[str, ...]] = ()
    """Options that hold an engine section."""
    question_prompts: tuple[str, ...] = ()
    """Templates that `question` renders; default: those of generate."""
    example_prompts: tuple[str, ...] = ()
    """Templates that `examples` and `pairs` render; default: the question's."""

    def __init__(self, recipe: Any) -> None:
        """`recipe` is the resolved pipeline.config.Recipe, `self.options` the method's part of it."""
        self.recipe = recipe
        self.options: Options = self.Options.model_validate(recipe.method)
        self.prompts = Prompts.of(recipe)
        train = recipe.train
        if train.kind == "cpt" and self.dataset != "cpt":
            raise ConfigError(
                "train.kind cpt trains on plain texts, and method "
                f"{self.name} writes none. Use another method."
            )
        if train.adapters and not (self.roles and train.lora and train.kind == "sft"):
            roles = ", ".join(self.roles) or "none"
            raise ConfigError(
                "train.adapters needs train.lora, train.kind sft and a method "
                f"with roles; {self.name} has roles: {roles}."
            )

    @property
    def keep_per_question(self) -> int | None:
        """How many verified rows are published per question and round, in methods with an option of that
        name.
        """
        return getattr(self.options, "keep_per_question", None)

    @abstractmethod
    def stages(self) -> dict[str, Stage]:
        """Return the four stages by name (pipeline.stage.STAGES); an empty Stage() passes rows through."""

    @abstractmethod
    def question(self, row: Row) -> list[Message]:
        """Return the chat that asks a task's question, as training and evaluation ask it.

        It never contains the answer.
        """

    @abstractmethod
    def examples(self, row: Row) -> list[Example]:
        """Return the training examples of one verified row, or of one real demonstration."""


def question_templates(method: Method) -> tuple[str, ...]:
    """Return the templates that a method's `question` renders."""
    return method.question_prompts or method.stages()["generate"].prompts


def example_templates(method: Method) -> tuple[str, ...]:
    """Return the templates that a method's `examples` and `pairs` render."""
    return method.example_prompts or question_templates(method)


def method_class(recipe: Any) -> type[Method]:
    """Return the class that the recipe's method.name points at. Raises ConfigError for what it lacks."""
    given = recipe.method["name"]
    found = registry.resolve_class("method", given, Method, "Options", BaseModel)
    name = getattr(found, "name", None)
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        has = "has no `name`" if name is None else f"has the name {name!r}"
        raise ConfigError(
            f"method {given!r}: class {found.__name__} {has}; expected a line such as "
            'name = "revise" in it: letters, digits, "_" and "-", for tables and datasets.'
        )
    return found


def load_method(recipe: Any) -> Method:
    """Return the recipe's method. Raises ConfigError when it cannot work with the rest of the recipe, or
    cannot be made at all.
    """
    cls = method_class(recipe)
    with _own_code(cls.name, "__init__"):
        return cls(recipe)


def check_method(method: Method) -> None:
    """Raise ConfigError for a method that lacks a stage or a template."""
    with _own_code(method.name, "stages()"):
        made = method.stages()
    missing = [name for name in STAGES if name not in made] if isinstance(made, dict) else list(STAGES)
    if missing:
        raise ConfigError(
            f"method {method.name}: stages() returns no stage for {', '.join(missing)}; expected all of "
            f"{', '.join(STAGES)} (an empty Stage() passes rows through)."
        )
    used = {"question": question_templates(method), "examples": example_templates(method)}
    for name, stage in made.items():
        if not isinstance(stage, Stage):
            raise ConfigError(
                f"method {method.name}: stages() returns {stage!r} as {name}; expected a Stage(...)."
            )
        used[f"stage {name}"] = stage.prompts
    for where, templates in used.items():
        for template in templates:
            try:
                method.prompts.check(template)
            except ConfigError as e:
                raise ConfigError(f"method {method.name}, {where}: {e}") from None


def check_question(method: Method, row: Row) -> None:
    """Raise ConfigError if a method cannot ask the question in a task's row."""
    with _own_code(method.name, "question()", row):
        asked = method.question(row)
    if not (isinstance(asked, list) and asked and all(map(_is_message, asked))):
        raise ConfigError(
            f"method {method.name}: question() returns {str(asked)[:80]}; expected a list of messages, as "
            "self.prompts.render(...) returns it."
        )


def examples_of(method: Method, row: Row) -> list[Example]:
    """Return a row's examples. Raises ConfigError, naming the row, if the method cannot make them."""
    with _own_code(method.name, "examples()", row):
        made = list(method.examples(row))
        for example in made:
            if not isinstance(example, Example) or not all(
                map(_is_message, (*example.prompt, *example.completion))
            ):
                raise TypeError(f"{str(example)[:80]} is no Example(prompt, completion) of messages")
    return made


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and {"role", "content"} <= message.keys()


@contextmanager
def _own_code(name: str, what: str, row: Row | None = None) -> Iterator[None]:
    """Turn what a method's own code raises into one sentence, with the place and the row."""
    try:
        yield
    except SelfloopError as e:  # says enough, but for whose row it is
        if row is None:
            raise
        raise ConfigError(f"method {name}: {what} fails on row {row.id}: {e}") from e
    except Exception as e:
        on = "" if row is None else f" on row {row.id}, whose payload has {', '.join(sorted(row.payload))}"
        raise ConfigError(
            f"method {name}: {what} raises {type(e).__name__}: {e}{on} ({raised_at(e)})."
        ) from e


def method_stage(name: str, recipe: Any) -> Stage:
    """Return one stage of a recipe's method; workers call this to build theirs."""
    return load_method(recipe).stages()[name]
