"""Environments that run in a Java process: what they need, and how their process ends."""

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from pipeline.errors import ConfigError
from stages.environments.base import EnvOptions

_SECONDS = 5.0  # a process has to end by itself


def require(module: str, extra: str) -> None:
    """Raise ConfigError, saying how to install what is missing, unless the package `module` and Java are there."""
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"environment {extra}: its package is not installed; install it with: pip install -e '.[{extra.replace('_', '-')}]' (in selfloop's folder)"
        )
    if shutil.which("java") is None:
        raise ConfigError(
            f"environment {extra}: there is no java on the PATH. It needs Java 8 or later, such as Debian's default-jre-headless "
            "(apt-get install default-jre-headless)."
        )


class PerSplit(EnvOptions):
    """How many tasks of each kind (a game, an experiment) a split has."""

    train: int | None = Field(None, ge=0, description="null: all")
    dev: int | None = Field(None, ge=0)
    test: int | None = Field(None, ge=0)


def in_turn(kinds: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, int]]:
    """Yield (kind, number) for all numbers of all kinds: the first of each, then the second of each that has one, and so on."""
    for i in range(max(map(len, kinds.values()), default=0)):
        yield from ((kind, numbers[i]) for kind, numbers in kinds.items() if i < len(numbers))


def end(env: Any) -> None:
    """Close a package's environment, if there is one, and end its process if it does not end by itself."""
    if env is None:
        return
    process = env._gateway.java_process
    env.close()
    try:
        process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
