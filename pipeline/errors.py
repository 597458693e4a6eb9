"""Errors that are shown to people as one message, without a traceback."""

import traceback


def raised_at(error: BaseException) -> str:
    """Return "path:line" of the place that raised a caught error, for messages that show no traceback."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


class SelfloopError(Exception):
    """A mistake or a condition the person at the keyboard can do something about.

    The message says what was expected, where (file, line, key) and what to do. ``jobs`` print it and exit with 2.
    """


class ConfigError(SelfloopError):
    """The recipe, or an override of it, cannot be used."""


class StaleError(SelfloopError):
    """Stored output was made with other inputs than those at hand (ARCHITECTURE invariant 3)."""


class DataError(SelfloopError):
    """An input file or a row of it cannot be used."""


class DamagedError(DataError, ValueError):
    """A file that selfloop wrote cannot be read any more."""

    @classmethod
    def of(cls, path: str, why: object) -> "DamagedError":
        """Return the error of one file."""
        return cls(
            f"{path}: {why}. Put it back from a copy; or remove the folder of its stage, and what was made of it, and start again: the rest is made anew."
        )


class StageError(SelfloopError):
    """A stage could not be finished: conservation broken, too many failures, or no progress."""


class EngineError(Exception):
    """One request failed. ``retryable`` tells whether sending the same request again may help."""

    def __init__(self, message: str, *, retryable: bool = False, raw: str = "") -> None:
        super().__init__(message)
        self.retryable = retryable
        self.raw = raw

    @property
    def refused(self) -> bool:
        """The engine is fine and rejects this request for good: sending it again is pointless."""
        return not self.retryable and not isinstance(self, EngineDied)

    def __reduce__(
        self,
    ):  # keyword-only arguments do not survive pickling between Ray processes by themselves
        return (_rebuild_engine_error, (type(self), str(self), self.retryable, self.raw))


class EngineDied(EngineError):
    """The engine itself is gone; the request may be sent again once the engine is back."""


class EngineLost(EngineDied):
    """No engine is left to ask, or it serves somebody else: rows cannot be blamed for that, so the stage has to stop."""


def _rebuild_engine_error(cls: type[EngineError], message: str, retryable: bool, raw: str) -> EngineError:
    return cls(message, retryable=retryable, raw=raw)
