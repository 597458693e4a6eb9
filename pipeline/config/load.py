"""From a YAML file and overrides to a Recipe, with errors that name file, line, key and the nearest right key."""

import copy
import types
import typing
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipeline import prompts, registry
from pipeline.config.recipe import Recipe
from pipeline.errors import ConfigError
from pipeline.store import files

Loc = tuple[str | int, ...]


def load_recipe(path: str | Path, overrides: typing.Sequence[str] = ()) -> Recipe:
    """Read the recipe at `path` with `overrides` ("a.b=c", values in YAML) laid over it. Raises ConfigError."""
    path = str(path)
    try:
        text = files.read_bytes(path).decode()
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such recipe. Recipes that come with selfloop are in jobs/recipes/*.yaml."
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {e}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as e:  # ValueError: a date that does not exist
        raise ConfigError(f"{path}: not valid YAML: {e}") from None
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: expected a mapping of settings at the top level, got {type(data).__name__}."
        )
    set_by: dict[Loc, str] = {}
    before = copy.deepcopy(data.get("method"))
    for override in overrides:
        set_by[_apply(data, override)] = override
    if ("method", "preset") in set_by:
        _leave_preset(
            data["method"], before, {loc[1] for loc in set_by if loc[0] == "method" and len(loc) > 1}
        )
    if "prompts" in data:
        data["prompts"] = prompts.read_replacements(data["prompts"], Path(path).parent)
    lines = _lines(path, node) if node else {}
    return build_recipe(data, lambda loc: _place(path, lines, set_by, loc))


def build_recipe(
    data: dict[str, Any], place: typing.Callable[[Loc], str] = lambda loc: ".".join(map(str, loc))
) -> Recipe:
    """Validate `data`, the method's options included. `place` says where a key stands, for error messages."""
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as e:
        raise ConfigError(_explain(e, Recipe, place, data)) from None
    method = registry.resolve("method", recipe.method["name"])
    _check_method(method, recipe.method["name"])
    try:
        recipe.method = method.Options.model_validate(recipe.method).model_dump(mode="json")
    except ValidationError as e:
        raise ConfigError(
            _explain(e, method.Options, lambda loc: place(("method", *loc)), recipe.method)
        ) from None
    prompts.Prompts.of(recipe).check_replaced()
    method(recipe)  # refuses settings that do not go together, before anything is stored
    return recipe


def _check_method(method: Any, name: str) -> None:
    options = getattr(method, "Options", None)
    if not (isinstance(method, type) and isinstance(options, type) and issubclass(options, BaseModel)):
        raise ConfigError(
            f"method.name: {name!r} is {method!r}; expected a subclass of pipeline.methods.Method that names its options' class as Options."
        )
    if lacks := sorted(getattr(method, "__abstractmethods__", ())):
        raise ConfigError(
            f"method.name: {name!r} does not define {', '.join(lacks)} (see pipeline.methods.Method)."
        )


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML with every default spelled out; `load_recipe` reads it back to the same recipe."""
    data = recipe.model_dump(mode="json")
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
    # YAML takes some characters, such as U+2028, for line ends unless they are escaped
    return text if yaml.safe_load(text) == data else yaml.safe_dump(data, sort_keys=False, width=120)


def _apply(data: dict[str, Any], override: str) -> Loc:
    key, eq, value = override.partition("=")
    keys = key.strip().split(".")
    if not eq or not all(keys):
        raise ConfigError(f"--set {override!r}: expected key=value, such as --set train.epochs=2")
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(
            f"--set {override!r}: {value!r} is not a YAML value; quote it if it is text"
        ) from None
    at = data
    for k in keys[:-1]:
        at[k] = {} if at.get(k) is None else at[k]
        at = at[k]
        if not isinstance(at, dict):
            raise ConfigError(f"--set {override!r}: {k!r} is {at!r}, not a section with keys of its own")
    at[keys[-1]] = parsed
    return tuple(keys)


def _leave_preset(method: dict[str, Any], before: Any, set_too: set[str | int]) -> None:
    """Take out of `method`, whose preset is another one now, what only spelt out the preset that it had `before`, as a run's recipe does."""
    if not (
        isinstance(before, dict)
        and isinstance(method, dict)
        and isinstance(method.get("name"), str)
        and before.get("name") == method["name"]
    ):
        return
    for key, value in (
        registry.resolve("method", method["name"]).Options.of_preset(before.get("preset")).items()
    ):
        if key not in set_too and key in before and before[key] == value:
            del method[key]


def _lines(path: str, node: yaml.Node, loc: Loc = ()) -> dict[Loc, int]:
    found = {loc: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            at = (*loc, key.value)
            if at in found:  # YAML readers keep the last one and say nothing
                raise ConfigError(
                    f"{path}:{key.start_mark.line + 1}: {'.'.join(map(str, at))} is there twice (first in line {found[at]})."
                )
            found |= _lines(path, value, at)
            found[at] = key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            found |= _lines(path, value, (*loc, i))
    return found


def _place(path: str, lines: dict[Loc, int], set_by: dict[Loc, str], loc: Loc) -> str:
    name = ".".join(map(str, loc)) or "the recipe"
    for at in (loc[:i] for i in range(len(loc), -1, -1)):
        if at in set_by:
            return f"--set {set_by[at]}: {name}"
        if at in lines:
            return f"{path}:{lines[at]}: {name}"
    return f"{path}: {name}"


def _explain(
    error: ValidationError, model: type[BaseModel], place: typing.Callable[[Loc], str], data: Any
) -> str:
    messages = []
    for e in error.errors(include_url=False):
        # pydantic puts the engine's kind into the location, where the file has no such level
        loc = tuple(
            p
            for i, p in enumerate(e["loc"])
            if not (i and e["loc"][i - 1] in ("engine", "annotator") and p in ("vllm", "openai", "scripted"))
        )
        if e["type"] == "extra_forbidden":
            known = _keys(model, loc[:-1], data)
            near = get_close_matches(str(loc[-1]), known, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
            messages.append(f"{place(loc)}: unknown key {str(loc[-1])!r}; {hint}")
        elif e["type"] == "missing":
            messages.append(f"{place(loc)}: is missing and has no default")
        else:
            given = "" if isinstance(e["input"], dict) else f" (given: {e['input']!r})"
            messages.append(f"{place(loc)}: {e['msg'].removeprefix('Value error, ')}{given}")
    return "\n".join(messages)


def _keys(model: type[BaseModel], loc: Loc, data: Any) -> list[str]:
    """The keys that `model` knows at `loc`; a union is narrowed by the `kind` that the data names."""
    here: list[type[BaseModel]] = [model]
    named = False  # the next key is a name that the recipe gives, as in evaluate.sets
    for key in loc:
        data = data.get(key) if isinstance(data, dict) else None
        if named:
            named = False
            continue
        fields = [m.model_fields[key].annotation for m in here if key in m.model_fields]
        named = any(typing.get_origin(f) is dict for f in fields)
        here = [m for f in fields for m in _models(f)]
        kind = data.get("kind", "vllm") if isinstance(data, dict) else None
        if len(here) > 1:  # `train` has a kind too, but is no union
            here = [
                m
                for m in here
                if "kind" not in m.model_fields or kind in typing.get_args(m.model_fields["kind"].annotation)
            ]
    return sorted({name for m in here for name in m.model_fields})


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Annotated, typing.Union, types.UnionType, list, dict):
        return [m for a in typing.get_args(annotation) for m in _models(a)]
    return []
