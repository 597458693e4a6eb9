"""Text environments: games that a model plays and learns from."""

from typing import Any

from pydantic import ValidationError

from pipeline import registry
from pipeline.errors import ConfigError, suggest
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
    is_reflection,
)

__all__ = [
    "REFLECT",
    "REFLECT_REPLY",
    "SPLITS",
    "EnvOptions",
    "EnvTask",
    "Environment",
    "ReplayError",
    "Split",
    "Step",
    "find",
    "is_reflection",
    "make",
]


def make(name: str, options: dict[str, Any] | None = None) -> Environment:
    """Return the environment called `name` ("crafting", or your own as "module:Class") with these options.

    Raises ConfigError naming the option that is wrong and the nearest right one, and where something has to be installed first.
    """
    environment = find(name)
    try:
        return environment(environment.Options.model_validate(options or {}))
    except ValidationError as e:
        raise ConfigError(
            "\n".join(f"environment {name}: {line}" for line in _explain(e, environment.Options))
        ) from None


def find(name: str) -> type[Environment]:
    """Return the class of the environment called `name`. Raises ConfigError naming what a class of the user's own lacks."""
    found = registry.resolve("environment", name)
    if not (isinstance(found, type) and issubclass(found, Environment)):
        raise ConfigError(
            f"environment {name!r}: expected a subclass of stages.environments.Environment, found {found!r}."
        )
    lacking = sorted(found.__abstractmethods__)
    lacking += [] if getattr(found, "name", "") else ["name"]
    lacking += (
        []
        if found.rules_prompt or found.rules is not Environment.rules
        else ["rules_prompt (the name of a template) or rules"]
    )
    if lacking:
        raise ConfigError(
            f"environment {name!r}: its class lacks {', '.join(lacking)}; stages/environments/base.py says what each is for."
        )
    return found


def _explain(error: ValidationError, model: type[EnvOptions]) -> list[str]:
    lines = []
    for e in error.errors(include_url=False):
        key = ".".join(map(str, e["loc"])) or "options"
        if e["type"] == "extra_forbidden":
            known = sorted(model.model_fields) if len(e["loc"]) == 1 else []
            listed = f" Its options: {', '.join(known)}." if known else ""
            hint = suggest(str(e["loc"][-1]), known) or listed
            lines.append(f"there is no option {key!r}.{hint}")
        else:
            given = "" if isinstance(e["input"], dict | EnvOptions) else f" (given: {e['input']!r})"
            lines.append(f"{key}: {e['msg'].removeprefix('Value error, ')}{given}")
    return lines
