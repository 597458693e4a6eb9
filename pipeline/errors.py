"""Errors meant for people: shown as one message, without a traceback."""

import traceback
from collections.abc import Iterable
from difflib import get_close_matches


def raised_at(error: BaseException) -> str:
    """Return "path:line" of the code that raised a caught error."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to a misspelled one, or None when nothing is close."""
    return next(iter(get_close_matches(name, list(known), 1, 0.5)), None)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for a misspelled name, to append to an error; "" when nothing is close."""
    near = nearest(name, known)
    return f" Did you mean {near!r}?" if near else ""


class SelfloopError(Exception):
    """A mistake or a condition that the person at the keyboard can do something about.

    The message says what was expected, where (file, line, key) and what to do next. Jobs print it and exit
    with 2.
    """


class ConfigError(SelfloopError):
    """The recipe, or an override of it, cannot be used."""


class StaleError(SelfloopError):
    """Stored output was made from other inputs than the current ones; rows of both must never be mixed."""


class DataError(SelfloopError):
    """An input file or a row of it cannot be used."""


class DamagedError(DataError, ValueError):
    """A file that selfloop wrote is no longer readable."""

    @classmethod
    def of(cls, path: str, why: object) -> "DamagedError":
        """Return the error for one file of a run."""
        return cls(f"{path}: {why}. Restore it from a backup, or {_without(path)}")


def _without(path: str) -> str:
    """Return how to go on without a file of a run. Whatever else is lost, the request log stays."""
    folder, _, name = path.rpartition("/")
    at = max(("rounds", "tasks", "datasets"), key=lambda name: path.rfind(f"/{name}/"))
    at = at if f"/{at}/" in path else ""
    if at == "tasks":
        return "start again in a new run directory."
    if at == "datasets":
        return "delete its folder, which the same command then writes again."
    if name == "manifest.json":
        return "delete this file: the same command writes it again from the parts beside it."
    if name.endswith(".arrow"):
        folder = folder.removesuffix("/rows").removesuffix("/dropped").removesuffix("/failed")
        return (
            f"delete the files named {name} and manifest.json in {folder} and its folders rows, dropped and "
            "failed, and the folders of what was made of its rows since, then rerun. Leave its folder "
            "requests alone: the finished requests in it are not sent again."
        )
    return (
        "delete it and the folders of what was made from it since, then rerun. Leave folders named requests "
        "alone: the finished requests in them are not sent again."
    )


class StageError(SelfloopError):
    """A stage could not be finished: row counts do not add up, too many failures, or no progress."""


class EngineError(Exception):
    """One request failed. `retryable` tells whether sending the same request again may help."""

    def __init__(self, message: str, *, retryable: bool = False, raw: str = "") -> None:
        super().__init__(message)
        self.retryable = retryable
        self.raw = raw

    @property
    def refused(self) -> bool:
        """Whether the engine is up but rejects this very request: asking again cannot help."""
        return not self.retryable and not isinstance(self, EngineDied)

    def __reduce__(self) -> tuple[object, ...]:  # pickling drops keyword-only arguments
        return _rebuild_engine_error, (type(self), str(self), self.retryable, self.raw)


class EngineDied(EngineError):
    """The engine itself is gone; the request may be sent again once the engine is back."""


class EngineLost(EngineDied):
    """No engine is left, or it serves another job: no row is to blame, so the stage has to stop."""


def _rebuild_engine_error(cls: type[EngineError], message: str, retryable: bool, raw: str) -> EngineError:
    return cls(message, retryable=retryable, raw=raw)
