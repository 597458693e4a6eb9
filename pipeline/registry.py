"""Look up methods, engines, task sources and verifiers by name. Each is imported when first asked for."""

import importlib
from typing import Any

from pipeline.errors import ConfigError, suggest

_TARGETS: dict[str, dict[str, str]] = {}


def register(kind: str, name: str, target: str) -> None:
    """Register `target` ("module:attribute") as the `kind` called `name`."""
    _TARGETS.setdefault(kind, {})[name] = target


def load(package: str) -> None:
    """Import a package that registers things on import ("stages", or one of the user's own)."""
    importlib.import_module(package)


def names(kind: str) -> list[str]:
    """Return the registered names of a kind, sorted."""
    return sorted(_TARGETS.get(kind, {}))


def resolve(kind: str, name: str) -> Any:
    """Return the `kind` registered as `name`, or what "module:attribute" refers to. Raises ConfigError."""
    target = _TARGETS.get(kind, {}).get(name, name if ":" in name else "")
    if not target:
        raise ConfigError(
            f"unknown {kind} {name!r}.{suggest(name, names(kind))} Known: {', '.join(names(kind))}; "
            "or your own as 'module:Name'."
        )
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as e:  # a user's own module may raise anything
        raise ConfigError(
            f"{kind} {name!r} points at {target!r}, which cannot be imported: {type(e).__name__}: {e}"
        ) from e


def resolve_class(kind: str, name: str, base: type, settings: str, settings_base: type) -> Any:
    """Resolve a concrete subclass of `base` that declares the class of its settings as `settings`.

    Raises ConfigError saying what is missing.
    """
    found = resolve(kind, name)
    home = f"{base.__module__}.{base.__name__}"
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{kind} {name!r} is {found!r}; expected a subclass of {home}.")
    declared = getattr(found, settings, None)
    if not (isinstance(declared, type) and issubclass(declared, settings_base)):
        raise ConfigError(
            f"{kind} {name!r}: {settings} is {declared!r}; expected the class of its settings, a subclass of "
            f"{settings_base.__module__}.{settings_base.__name__}."
        )
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise ConfigError(f"{kind} {name!r} does not define {', '.join(missing)} (see {home}).")
    return found
