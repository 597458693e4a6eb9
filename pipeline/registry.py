"""Names to things: methods, task sources and verifiers are found by name, so that pipeline/ imports no stage."""

import importlib
from difflib import get_close_matches
from typing import Any

from pipeline.errors import ConfigError

_TARGETS: dict[str, dict[str, str]] = {}


def register(kind: str, name: str, target: str) -> None:
    """Make `target` ("module:attribute", imported only when asked for) known as the `kind` called `name`."""
    _TARGETS.setdefault(kind, {})[name] = target


def load(package: str) -> None:
    """Import a package whose import registers things ("stages", or a user's own)."""
    importlib.import_module(package)


def names(kind: str) -> list[str]:
    """Return the registered names of a kind, sorted."""
    return sorted(_TARGETS.get(kind, {}))


def resolve(kind: str, name: str) -> Any:
    """Return the thing of `kind` called `name`, or the one that "module:attribute" points at.

    Raises ConfigError with the nearest known name when there is none.
    """
    target = _TARGETS.get(kind, {}).get(name, name if ":" in name else "")
    if not target:
        near = get_close_matches(name, names(kind), 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"unknown {kind} {name!r}.{hint} Known: {', '.join(names(kind))}; or your own as 'module:Name'."
        )
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as e:  # a module of the user's own may raise anything
        raise ConfigError(
            f"{kind} {name!r} points at {target!r}, which cannot be imported: {type(e).__name__}: {e}"
        ) from e
