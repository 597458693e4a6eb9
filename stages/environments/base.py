"""The protocol of a text environment: text in, text and a reward out, with ways back to an earlier state."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict

from pipeline import prompts
from stages.environments.actions import Move, one_line

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

# An action of every environment, with which the model admits a mistake. It changes nothing and is no step of
# the game, nor of an evaluated episode.
REFLECT = "reflect"
REFLECT_REPLY = "Noted."
_REFLECTION = re.compile(rf"\s*{REFLECT}\b", re.IGNORECASE)


class EnvOptions(BaseModel):
    """Base of every environment's options. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


@dataclass(slots=True, frozen=True)
class EnvTask:
    """One task. `spec` (JSON) is all that `reset` needs; `id` derives from it alone."""

    id: str
    split: Split
    spec: dict[str, Any]
    tags: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class Step:
    """The result of an action. `reward` is the total so far, in [0, 1]; `info["executed"]` is False for an
    impossible action."""

    observation: str
    reward: float
    done: bool
    info: dict[str, Any] = field(default_factory=dict)


class ReplayError(Exception):
    """Replaying the same actions led to another reward, so the state cannot be restored."""


class Environment(ABC):
    """Plays one game at a time. Ids and texts depend on the task alone, not on the process or the machine."""

    name: ClassVar[str]
    Options: ClassVar[type[EnvOptions]] = EnvOptions
    # Part of `identity`: increment it when tasks, texts or rewards change.
    version: ClassVar[int] = 1
    # The template behind `rules`, to be listed in the prompts of a stage that shows them.
    rules_prompt: ClassVar[str] = ""
    # Default of method.environments, the instances in one stage worker; few if each is a process. None: any.
    at_once: ClassVar[int | None] = None
    # Whether no task of one split is one of another, however alike their texts are: training data need not be
    # searched for words of held-out tasks then, which tasks of one kind share.
    disjoint_splits: ClassVar[bool] = True
    # The distribution that provides the game and whose version therefore decides what is played.
    package: ClassVar[str] = ""
    # Actions repeated to restore states, counted by `restore` in environments that cannot copy a state.
    replayed = 0

    def __init__(self, options: Any) -> None:
        """`options` is a valid instance of `Options`; see stages.environments.make."""
        self.options = options

    @property
    def rules(self) -> str:
        """The rules shown to the player: the aim and every form of action."""
        return prompts.render(self.rules_prompt, options=self.options)[0]["content"]

    def identity(self) -> dict[str, Any]:
        """Return all that tasks, texts and rewards depend on, for the config of a stage that plays."""
        return {"name": self.name, "version": self.version, "options": self.options.model_dump(mode="json")}

    def notes(self) -> list[str]:
        """Return what people should know about the tasks, such as omitted recipes, one line each."""
        return []

    def parse(self, text: str) -> Move:
        """Read a player's reply (without thoughts in tags): its turn, and the action for `step` in it.

        The turn is a beginning of `text`, kept and learned as it was written; what follows it is discarded.
        Default: actions of one line. For code or tool calls return `actions.several_lines(text)`, or read
        them your own way, and replace the templates agent_r/rules and agent_r/reflect to ask for that form.
        """
        return one_line(text)

    def bare_turn(self, action: str) -> str:
        """Return a turn with `action` but no thought, from which `parse` reads it back."""
        return f"Action: {action}"

    @abstractmethod
    def tasks(self, split: Split) -> Iterator[EnvTask]:
        """Yield the tasks of a split, always in the same order. Splits are disjoint."""

    @abstractmethod
    def reset(self, task: EnvTask) -> str:
        """Start a task and return the first observation, which includes the goal."""

    def step(self, text: str) -> Step:
        """Do one action. An impossible one gets a reply with info["executed"] False, never an exception."""
        return self._reflected() if is_reflection(text) else self._step(text)

    @abstractmethod
    def _step(self, text: str) -> Step:
        """Do an action other than `reflect`."""

    @abstractmethod
    def _reflected(self) -> Step:
        """Return Step(REFLECT_REPLY, ...) with the current reward and end, without changing anything."""

    @abstractmethod
    def snapshot(self) -> Any:
        """Return the whole state as a value that later steps do not change."""

    @abstractmethod
    def restore(self, state: Any) -> None:
        """Return to a snapshot of the same task, by replaying its actions if the state cannot be copied."""

    @abstractmethod
    def oracle(self) -> list[str] | None:
        """Return actions that lead from here to reward 1, or None if none are known or it is too late."""

    @abstractmethod
    def state_hash(self) -> str:
        """Return a hash that two states share if and only if everything that can still happen is the same.

        If the state cannot be inspected, the hash is of the actions so far: equal hashes still mean equal
        states, but a state that can be reached in two ways has two hashes.
        """

    def valid_actions(self) -> list[str] | None:
        """Return the actions possible now, or None if the environment does not list them. May be slow."""
        return None

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Stop what the environment started, such as a Java process."""


def is_reflection(text: str) -> bool:
    """Tell whether an action is `reflect`, alone or followed by words."""
    return _REFLECTION.match(text) is not None
