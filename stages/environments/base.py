"""What a text environment is: a task, text in, text and a reward out, and ways back to an earlier state."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict

from pipeline import prompts

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

REFLECT = "reflect"  # an action of every environment: the model says that it was wrong, and nothing changes
REFLECT_REPLY = "Noted."
_REFLECTION = re.compile(rf"\s*{REFLECT}\b", re.IGNORECASE)


class EnvOptions(BaseModel):
    """Base of every environment's options: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


@dataclass(slots=True, frozen=True)
class EnvTask:
    """One task. `spec` (JSON) is all that `reset` needs; `id` is derived from it, so it is the same on every machine."""

    id: str
    split: Split
    spec: dict[str, Any]
    tags: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class Step:
    """What an action led to. `reward` is the whole reward so far, in [0, 1]; `info["executed"]` tells whether the action was possible."""

    observation: str
    reward: float
    done: bool
    info: dict[str, Any] = field(default_factory=dict)


class ReplayError(Exception):
    """The same actions did not lead to the same reward again, so a state cannot be gone back to."""


class Environment(ABC):
    """One game at a time. Ids and texts depend on the task alone: not on the hash seed, not on the order of a directory, not on time."""

    name: ClassVar[str]
    Options: ClassVar[type[EnvOptions]] = EnvOptions
    version: ClassVar[int] = 1  # raise it when tasks, texts or rewards change: part of `identity`
    rules_prompt: ClassVar[str] = (
        ""  # the template of `rules`; belongs in the prompts of a stage that shows them
    )
    # Whether `restore` goes back at once. Where it does not, it resets and plays the same actions again, which takes as long as they did.
    snapshots: ClassVar[bool] = True
    at_once: ClassVar[int | None] = (
        None  # of them in one stage worker, unless method.environments says so: few where each is a process; None: any number
    )
    package: ClassVar[str] = (
        ""  # the distribution that the game itself comes from, whose version decides what is played
    )
    replayed = (
        0  # actions done once more to go back to a state; where `snapshots` is False, `restore` counts them
    )

    def __init__(self, options: Any) -> None:
        """`options` is a valid instance of `Options`; see stages.environments.make."""
        self.options = options

    @property
    def rules(self) -> str:
        """What the player is told beforehand: the aim and every form of action."""
        return prompts.render(self.rules_prompt, options=self.options)[0]["content"]

    def identity(self) -> dict[str, Any]:
        """Return all that tasks, texts and rewards depend on, as JSON: it belongs in the config of a stage that plays."""
        return {"name": self.name, "version": self.version, "options": self.options.model_dump(mode="json")}

    def notes(self) -> list[str]:
        """Return what people should know about the tasks (such as recipes left out), one line each."""
        return []

    @abstractmethod
    def tasks(self, split: Split) -> Iterator[EnvTask]:
        """Yield the tasks of a split, always in the same order. No task is in two splits."""

    @abstractmethod
    def reset(self, task: EnvTask) -> str:
        """Begin a task and return the first observation, the goal included."""

    def step(self, text: str) -> Step:
        """Do one action. What cannot be done is answered in words (info["executed"] is False), never with an exception."""
        if is_reflection(text):
            return self._reflected()
        return self._step(text)

    @abstractmethod
    def _step(self, text: str) -> Step:
        """Do an action other than `reflect`."""

    @abstractmethod
    def _reflected(self) -> Step:
        """Return Step(REFLECT_REPLY, ...) with the reward and end as they are. Nothing changes, no step of a limit is used."""

    @abstractmethod
    def snapshot(self) -> Any:
        """Return the whole state, as something that later steps do not change."""

    @abstractmethod
    def restore(self, state: Any) -> None:
        """Go back to a snapshot of the same task. Works in every environment; see `snapshots` for what it costs."""

    @abstractmethod
    def oracle(self) -> list[str] | None:
        """Return the actions that lead from the present state to reward 1, or None when none is known or it is too late."""

    @abstractmethod
    def state_hash(self) -> str:
        """Return a hash that two states share exactly when all that can still happen is the same.

        Where a state cannot be looked into (snapshots is False), the hash is of the way there: states that share it are the same, but
        the same state may be reached in two ways and have two hashes.
        """

    def valid_actions(self) -> list[str] | None:
        """Return the actions that are possible now, or None where the environment does not list them. May take a while."""
        return None

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what the environment started, such as a Java process."""


def is_reflection(text: str) -> bool:
    """Tell whether an action is `reflect`, alone or with words after it."""
    return _REFLECTION.match(text) is not None
