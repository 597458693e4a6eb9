"""Environments whose state cannot be copied: going back is resetting and playing the same actions again."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from pipeline.ids import digest
from stages.environments.base import REFLECT_REPLY, Environment, EnvOptions, EnvTask, ReplayError, Step

_OVER = "The game is over."
_SAME = 1e-6  # rewards that differ by less are the same


class Played(NamedTuple):
    """A state: how it was come to, and what it was worth, to notice when the same actions lead elsewhere."""

    task: EnvTask
    actions: tuple[str, ...]
    reward: float


class Replayed(Environment):
    """A subclass begins a game and acts in it; this keeps the actions and plays them again."""

    snapshots: ClassVar[bool] = False

    def __init__(self, options: EnvOptions) -> None:
        super().__init__(options)
        self._task: EnvTask | None = None  # None: no game is on
        self._actions: list[str] = []
        self._at = Step("", 0.0, False)
        self._gold: tuple[str, list[str] | None] = ("", None)  # task id, and its solution from the start

    @abstractmethod
    def _begin(self, task: EnvTask) -> str:
        """Begin the task's game anew and return the first observation."""

    @abstractmethod
    def _act(self, text: str) -> Step:
        """Do an action in a game that is not over."""

    @abstractmethod
    def _solution(self, task: EnvTask) -> list[str] | None:
        """Return actions that solve the task from its start, if they are known. May leave any game behind."""

    def reset(self, task: EnvTask) -> str:
        """Begin the task."""
        self._task = None  # should beginning fail, no game is on
        text = self._begin(task)
        self._task, self._actions, self._at = task, [], Step("", 0.0, False)
        return text

    def _step(self, text: str) -> Step:
        self._on()
        if self._at.done:
            return Step(_OVER, self._at.reward, True, {"executed": False})
        self._at = self._act(text)
        self._actions.append(text)
        return self._at

    def _reflected(self) -> Step:
        return Step(REFLECT_REPLY, self._at.reward, self._at.done, {"executed": True})

    def _on(self) -> EnvTask:
        if self._task is None:
            raise RuntimeError(f"{self.name}: no game is on; reset it with a task first")
        return self._task

    def snapshot(self) -> Played:
        """Return the way to the present state."""
        return Played(self._on(), tuple(self._actions), self._at.reward)

    def restore(self, state: Played) -> None:
        """Go back to a state, or on to it where the game is on its way there. Raises ReplayError if that leads elsewhere this time."""
        done = len(self._actions)
        if (
            self._task is None
            or self._task.id != state.task.id
            or tuple(self._actions) != state.actions[:done]
        ):
            self.reset(state.task)
            done = 0
        self._play(state, state.actions[done:])

    def _play(self, state: Played, actions: Sequence[str]) -> None:
        self.replayed += len(actions)
        for text in actions:
            self._step(text)
        if abs(self._at.reward - state.reward) > _SAME:
            raise ReplayError(
                f"{self.name}: {len(state.actions)} actions of task {state.task.id} gave reward {self._at.reward:g} when played again, {state.reward:g} before"
            )

    def oracle(self) -> list[str] | None:
        """Return the rest of the game's own solution, as long as every action so far belongs to it."""
        task = self._on()
        if self._at.done:
            return [] if self._at.reward >= 1 else None
        if self._gold[0] != task.id:
            state = self.snapshot()
            self._gold = (task.id, self._solution(task))
            self.reset(task)
            self._play(state, state.actions)
        solution = self._gold[1]
        if solution is None or solution[: len(self._actions)] != self._actions:
            return None
        return solution[len(self._actions) :]

    def state_hash(self) -> str:
        """Hash the task and the way here: equal hashes are equal states, but one state may have several."""
        task = self._on()
        return digest([task.id, "over", self._at.reward] if self._at.done else [task.id, self._actions])
