"""Games in a Java process of their own, started on first use and stopped by `close`."""

import importlib.util
import shutil
import subprocess
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any, ClassVar

from pydantic import Field

from pipeline.errors import ConfigError
from pipeline.ids import ID_CHARS, digest
from stages.environments.base import EnvOptions, EnvTask, Split
from stages.environments.replay import Replayed

_SECONDS = 5.0  # until a process that does not exit is killed


class PerSplit(EnvOptions):
    """Tasks of each kind (a game, an experiment) in a split."""

    train: int | None = Field(None, ge=0, description="null: all")
    dev: int | None = Field(None, ge=0)
    test: int | None = Field(None, ge=0)


class JavaGame(Replayed):
    """Base of the environments that wrap a Java game. `name` is also the module that the package installs."""

    kind: ClassVar[str]  # the key of a spec that tasks are grouped and tagged by

    def __init__(self, options: EnvOptions) -> None:
        """Raises ConfigError with the command to run if the package or Java is missing."""
        if importlib.util.find_spec(self.name) is None:
            raise ConfigError(
                f"environment {self.name}: its package is not installed; install it with: "
                f"pip install -e '.[{self.name.replace('_', '-')}]' (in selfloop's folder)"
            )
        if shutil.which("java") is None:
            raise ConfigError(
                f"environment {self.name}: there is no java on the PATH. It needs Java 8 or later, such as "
                "Debian's default-jre-headless (apt-get install default-jre-headless)."
            )
        super().__init__(options)
        self._env: Any = None  # the package's environment
        self._loaded: tuple[Any, ...] | None = None  # the arguments of its last `load`

    @abstractmethod
    def _start(self) -> Any:
        """Start the package's environment and return it."""

    @abstractmethod
    def _specs(self, split: Split) -> Iterable[list[dict[str, Any]]]:
        """Return the specs of the split's official tasks, a list for each kind."""

    def tasks(self, split: Split) -> Iterator[EnvTask]:
        """Yield the split's official tasks: the first of each kind, then the second of each, and so on.

        Asking for the first task loads every kind and ends the running game.
        """
        self._task = None
        for specs in zip_longest(*self._specs(split)):
            for spec in filter(None, specs):
                tag = f"{self.kind}:{spec[self.kind]}"
                yield EnvTask(digest([self.name, spec])[:ID_CHARS], split, spec, (tag,))

    def _started(self) -> Any:
        if self._env is None:
            self._env = self._start()
        return self._env

    def _load(self, what: str, *arguments: Any) -> Any:
        """Load a game if necessary and return the package's environment. Raises ConfigError that names `what`
        for arguments it refuses."""
        env = self._started()
        if self._loaded != arguments:
            self._loaded = None
            try:
                env.load(*arguments)
            except ValueError as e:
                raise ConfigError(f"environment {self.name}: {what}: {e}") from e
            self._loaded = arguments
        return env

    def close(self) -> None:
        """Stop the Java process."""
        env, self._env, self._task, self._loaded = self._env, None, None, None
        if env is None:
            return
        process = env._gateway.java_process
        env.close()
        try:
            process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def bare(text: str) -> str:
    """Return an action without extra spaces and a final stop. Siblings in a search tree may differ in these
    alone and count as one, so they must not decide what is done."""
    return " ".join(text.split()).rstrip(".")
