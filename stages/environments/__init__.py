"""Text environments: games that a model plays and learns from."""

from typing import Any

from pydantic import ValidationError

from pipeline import registry
from pipeline.errors import ConfigError, suggest
from stages.environments.actions import Move
from stages.environments.base import (
    REFLECT,
    REFLECT_REPLY,
    SPLITS,
    Environment,
    EnvOptions,
    EnvTask,
    ReplayError,
    Split,
    Step,
)

__all__ = [
    "REFLECT",
    "REFLECT_REPLY",
    "SPLITS",
    "EnvOptions",
    "EnvTask",
    "Environment",
    "Move",
    "ReplayError",
    "Split",
    "Step",
    "find",
    "make",
]


def make(name: str, options: dict[str, Any] | None = None) -> Environment:
    """Return the environment `name` ("crafting", or your own as "module:Class") with these options.

    Raises ConfigError for a wrong option, with the nearest right one, and for a missing package.
    """
    environment = find(name)
    try:
        return environment(environment.Options.model_validate(options or {}))
    except ValidationError as e:
        problems = (_explain(error, environment.Options) for error in e.errors(include_url=False))
        raise ConfigError("\n".join(f"environment {name}: {problem}" for problem in problems)) from None


def find(name: str) -> type[Environment]:
    """Return the class of the environment `name`. Raises ConfigError naming what a user's own class lacks."""
    cls = registry.resolve("environment", name)
    if not (isinstance(cls, type) and issubclass(cls, Environment)):
        expected = "expected a subclass of stages.environments.Environment"
        raise ConfigError(f"environment {name!r}: {expected}, got {cls!r}.")
    lacking = sorted(cls.__abstractmethods__)
    if not getattr(cls, "name", ""):
        lacking.append("name")
    if not cls.rules_prompt and cls.rules is Environment.rules:
        lacking.append("rules_prompt (the name of a template) or rules")
    if lacking:
        names = ", ".join(lacking)
        raise ConfigError(
            f"environment {name!r}: its class lacks {names}; see stages/environments/README.md."
        )
    return cls


def _explain(error: Any, model: type[EnvOptions]) -> str:
    """Put one of pydantic's error dicts into words."""
    key = ".".join(map(str, error["loc"])) or "options"
    if error["type"] != "extra_forbidden":
        given = "" if isinstance(error["input"], dict | EnvOptions) else f" (given: {error['input']!r})"
        return f"{key}: {error['msg'].removeprefix('Value error, ')}{given}"
    known = sorted(model.model_fields) if len(error["loc"]) == 1 else []
    listed = f" Its options: {', '.join(known)}." if known else ""
    return f"there is no option {key!r}.{suggest(key, known) or listed}"
