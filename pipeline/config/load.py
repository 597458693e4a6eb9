"""From a YAML file and overrides to a Recipe. Errors name file, line, key and the nearest known key."""

import copy
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pipeline import prompts, registry
from pipeline.chat.template import read_template
from pipeline.config.data import Source
from pipeline.config.engines import section_class
from pipeline.config.recipe import Recipe
from pipeline.config.section import Section
from pipeline.config.verifiers import VerifierSection, verifier_section
from pipeline.engines.base import EngineSection
from pipeline.errors import ConfigError, DamagedError, nearest
from pipeline.store import files

Loc = tuple[str | int, ...]
# Sections that `dump_recipe` has always written.
ALWAYS = (
    *("model", "engine", "tasks", "held_out", "sampling", "method", "filters", "accumulate"),
    *("train", "evaluate", "runner"),
)
AnySection = TypeVar("AnySection", bound=Section)
Place = Callable[[Loc], str]  # where a key stands, for error messages


class Override(NamedTuple):
    """A setting with another value, and where that comes from, for error messages. Its key is dotted, or
    already divided.
    """

    key: str | tuple[str, ...]
    value: Any
    place: str

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Return what "a.b=c" says, the value in YAML. Raises ConfigError."""
        key, eq, value = text.partition("=")
        if not eq or not all(key.strip().split(".")):
            raise ConfigError(f"--set {text!r}: expected key=value, such as --set train.epochs=2")
        try:
            return cls(key.strip(), yaml.safe_load(value), f"--set {text}")
        except (yaml.YAMLError, ValueError, RecursionError):
            raise ConfigError(
                f"--set {text!r}: {value!r} is not a YAML value; quote it if it is text"
            ) from None


# What a run.yaml without the key meant when it was written: defaults that have changed since.
_FORMER: dict[tuple[str, ...], Any] = {
    ("train", "learning_rate"): 2e-4,
    ("train", "dpo", "learning_rate"): 1e-6,
    ("train", "dpo", "loss_type"): ["sigmoid"],
}


def load_recipe(path: str | Path, overrides: Sequence[str | Override] = ()) -> Recipe:
    """Read the recipe at `path` and apply `overrides` ("a.b=c", the value in YAML). Raises ConfigError."""
    path = str(path)
    try:
        data, node = _read(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such recipe. selfloop's own recipes are jobs/recipes/*.yaml."
        ) from None
    if _is_dumped(data):  # a run.yaml, which a branch or a later start reads
        _fill_former(data)
        _fill_former_options(data["method"])
    before = copy.deepcopy(data.get("method"))
    set_by = _apply_all(data, overrides)
    if ("method", "preset") in set_by:
        _leave_preset(
            data["method"], before, {loc[1] for loc in set_by if loc[0] == "method" and len(loc) > 1}
        )
    if "prompts" in data:
        data["prompts"] = prompts.read_replacements(data["prompts"], Path(path).parent)
    if isinstance(data.get("model"), dict) and "chat_template" in data["model"]:
        data["model"]["chat_template"] = read_template(data["model"]["chat_template"], Path(path).parent)
    lines = _lines(path, node)

    def place(loc: Loc) -> str:
        return _place(path, lines, set_by, loc)

    recipe = build_recipe(data, place)
    for key, problem in recipe.train.mistakes():
        raise ConfigError(f"{place(('train', *key))}: {problem}")
    for loc, source in _sources(recipe):
        try:
            registry.resolve("source", source.source)
        except ConfigError as e:
            raise ConfigError(f"{place((*loc, 'source'))}: {e}") from None
    return recipe


def load_section(
    path: str | Path, section: type[AnySection], overrides: Sequence[str | Override] = ()
) -> tuple[AnySection, Place]:
    """Read the YAML file at `path` as a `section`; also return where each key stands. Raises ConfigError."""
    path = str(path)
    try:
        data, node = _read(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    set_by, lines = _apply_all(data, overrides), _lines(path, node)
    place = partial(_place, path, lines, set_by)
    try:
        return section.model_validate(data), place
    except ValidationError as e:
        raise ConfigError(_explain(e, section, place, data)) from None


def _sources(recipe: Recipe) -> Iterator[tuple[Loc, Source]]:
    """Yield the recipe's sources, each with where it is."""
    replay = recipe.train.cpt.replay
    single = (("tasks",), recipe.tasks), (("demonstrations",), recipe.demonstrations)
    further = (("held_out", "source"), recipe.held_out.source), (("train", "cpt", "replay"), replay)
    sets = ((("evaluate", "sets", name), source) for name, source in recipe.evaluate.sets.items())
    yield from ((loc, source) for loc, source in (*single, *further, *sets) if source is not None)


def stored_recipe(path: str) -> Recipe:
    """Read the run.yaml of a run. Raises FileNotFoundError, DamagedError, or ConfigError for a bad value."""
    data, lines = stored_data(path)
    _fill_former_options(data["method"])
    return build_recipe(data, lambda loc: _place(path, lines, {}, loc))


def stored_data(path: str) -> tuple[dict[str, Any], dict[Loc, int]]:
    """Return the values in a run.yaml as they are, and their lines. Raises as `stored_recipe` does."""
    try:
        data, node = _read(path)
        lines = _lines(path, node)
        # dump_recipe spells out every value and ends the last line: defaults must not fill a gap.
        if not _is_dumped(data):
            raise ConfigError(f"{path}: the file is cut off, its last sections are missing")
        if not files.read_bytes(path).endswith(b"\n"):
            raise ConfigError(f"{path}: the file is cut off in its last line")
    except ConfigError as e:
        raise DamagedError(
            f"{e}\nselfloop wrote this file when the run was started. Restore it from a backup, or start "
            "again in a new run directory."
        ) from None
    _fill_former(data)
    return data, lines


def _is_dumped(data: dict[str, Any]) -> bool:
    """Tell whether `dump_recipe` wrote all of this."""
    runner = data.get("runner")
    return isinstance(runner, dict) and "engine_pool" in runner and not missing(data)


def _fill_former(data: dict[str, Any]) -> None:
    for (*sections, key), former in _FORMER.items():
        at: Any = data
        for section in sections:
            at = at.setdefault(section, {}) if isinstance(at, dict) else None
        if isinstance(at, dict):
            at.setdefault(key, former)


def _fill_former_options(method: dict[str, Any]) -> None:
    """Complete a stored method's options by what was meant without them (Options.former)."""
    with suppress(ConfigError, AttributeError, KeyError):  # no such method: said where the recipe is built
        for key, former in registry.resolve("method", method["name"]).Options.former.items():
            method.setdefault(key, former)


def missing(data: dict[str, Any]) -> list[str]:
    """Return the sections that every run.yaml has had since the first version, and this one has not."""
    return [name for name in ALWAYS if not isinstance(data.get(name), dict)]


def build_recipe(data: dict[str, Any], place: Place = lambda loc: ".".join(map(str, loc))) -> Recipe:
    """Validate `data`, including the method's options. Raises ConfigError."""
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as e:
        raise ConfigError(_explain(e, Recipe, place, data)) from None
    from pipeline.methods import load_method, method_class  # which import this package

    try:
        method = method_class(recipe)
    except ConfigError as e:
        raise ConfigError(f"{place(('method', 'name'))}: {e}") from None
    try:
        recipe.method = method.Options.model_validate(recipe.method).model_dump(mode="json")
    except ValidationError as e:
        raise ConfigError(
            _explain(e, method.Options, lambda loc: place(("method", *loc)), recipe.method)
        ) from None
    prompts.Prompts.of(recipe).check_replaced()
    for loc, verifier in (
        (("verifier",), recipe.verifier),
        (("evaluate", "verifier"), recipe.evaluate.verifier),
    ):
        if isinstance(verifier, VerifierSection):
            try:
                verifier.check(recipe)
            except ConfigError as e:
                raise ConfigError(f"{place(loc)}: {e}") from None
    load_method(recipe)  # refuses settings that contradict each other, before anything is stored
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML with every default spelled out; `load_recipe` reads it back."""
    data = recipe.model_dump(mode="json")
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
    # YAML takes some characters, such as U+2028, for line breaks unless they are escaped.
    return text if yaml.safe_load(text) == data else yaml.safe_dump(data, sort_keys=False, width=120)


def _read(path: str) -> tuple[dict[str, Any], yaml.Node]:
    """Return the mapping in a YAML file and its nodes, which know their lines."""
    try:
        text = files.read_bytes(path).decode()
    except FileNotFoundError:
        raise
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror or e}") from None
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {e}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as e:  # ValueError: a date that does not exist
        raise ConfigError(f"{path}: not valid YAML: {e}") from None
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: expected a mapping of settings at the top level, got {type(data).__name__}."
        )
    return data, node


def _apply_all(data: dict[str, Any], overrides: Sequence[str | Override]) -> dict[Loc, str]:
    """Apply overrides to `data`, and return where each of the keys was set."""
    given = (Override.parsed(o) if isinstance(o, str) else o for o in overrides)
    return {_apply(data, override): override.place for override in given}


def _apply(data: dict[str, Any], override: Override) -> Loc:
    keys = override.key.split(".") if isinstance(override.key, str) else override.key
    at = data
    for k in keys[:-1]:
        at[k] = {} if at.get(k) is None else at[k]
        at = at[k]
        if not isinstance(at, dict):
            raise ConfigError(f"{override.place}: {k!r} is {at!r}, not a section with keys of its own")
    at[keys[-1]] = copy.deepcopy(override.value)
    return tuple(keys)


def _leave_preset(method: Any, before: Any, overridden: set[str | int]) -> None:
    """Drop from `method` the options that only spell out its old preset, as those in run.yaml do."""
    if not (isinstance(before, dict) and isinstance(method, dict)):
        return
    if not isinstance(method.get("name"), str) or before.get("name") != method["name"]:
        return
    options = registry.resolve("method", method["name"]).Options
    for key, value in options.of_preset(before.get("preset")).items():
        if key not in overridden and key in before and before[key] == value:
            del method[key]


def _lines(path: str, node: yaml.Node, loc: Loc = ()) -> dict[Loc, int]:
    """Return the line of every key. Raises ConfigError for a repeated key: YAML keeps the last one."""
    lines = {loc: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            at, line = (*loc, key.value), key.start_mark.line + 1
            if at in lines:
                name = ".".join(map(str, at))
                raise ConfigError(f"{path}:{line}: {name} is there twice (first in line {lines[at]}).")
            lines |= _lines(path, value, at) | {at: line}
    if isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            lines |= _lines(path, value, (*loc, i))
    return lines


def _place(path: str, lines: dict[Loc, int], set_by: dict[Loc, str], loc: Loc) -> str:
    name = ".".join(map(str, loc)) or "the recipe"
    sections = [loc[:i] for i in range(len(loc), -1, -1)]
    for at in sections:  # before the file, whose lines below an overridden section do not count
        if at in set_by:
            return f"{set_by[at]}: {name}"
    if loc and loc not in lines and (below := next((at for at in set_by if at[: len(loc)] == loc), None)):
        return f"{set_by[below]}: {name}"
    line = next((lines[at] for at in sections if at in lines), None)
    return f"{path}:{line}: {name}" if line else f"{path}: {name}"


def _explain(error: ValidationError, model: type[BaseModel], place: Place, data: Any) -> str:
    messages = []
    for e in error.errors(include_url=False):
        loc = e["loc"]
        if e["type"] == "extra_forbidden":
            key, known = str(loc[-1]), _keys(model, loc[:-1], data)
            near = nearest(key, known)
            hint = f"did you mean {near!r}?" if near else f"known here: {', '.join(known)}"
            messages.append(f"{place(loc)}: unknown key {key!r}; {hint}")
        elif e["type"] == "missing":
            messages.append(f"{place(loc)}: is missing and has no default")
        else:
            given = "" if isinstance(e["input"], dict) else f" (given: {e['input']!r})"
            messages.append(f"{place(loc)}: {e['msg'].removeprefix('Value error, ')}{given}")
    return "\n".join(messages)


def _keys(model: type[BaseModel], loc: Loc, data: Any) -> list[str]:
    """Return the keys that `model` knows at `loc` of `data`."""
    here: list[type[BaseModel]] = [model]
    named = False  # the next key is a name that the recipe chose, as in evaluate.sets
    for key in loc:
        if isinstance(key, int):
            data = data[key] if isinstance(data, list) else None
        else:
            data = data.get(key) if isinstance(data, dict) else None
            if named:
                named = False
                continue
            fields = [m.model_fields[key].annotation for m in here if key in m.model_fields]
            named = any(typing.get_origin(f) is dict for f in fields)
            here = [m for f in fields for m in _models(f)]
        if EngineSection in here and isinstance(data, dict):
            others = [m for m in here if m is not EngineSection]  # an engine names its kind, they do not
            here = others if others and "kind" not in data else [section_class(data)]
        if VerifierSection in here and isinstance(data, dict):
            here = [verifier_section(data)]
    return sorted({name for m in here for name in m.model_fields})


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Annotated, typing.Union, types.UnionType, list, dict):
        return [m for a in typing.get_args(annotation) for m in _models(a)]
    return []
