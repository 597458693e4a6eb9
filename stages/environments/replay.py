"""Environments whose state cannot be copied: restoring means resetting and playing the same actions again."""

from abc import abstractmethod
from typing import NamedTuple

from pipeline.ids import digest
from stages.environments.base import REFLECT_REPLY, Environment, EnvOptions, EnvTask, ReplayError, Step

_OVER = "The game is over."
_SAME = 1e-6  # rewards that differ by less are equal


class Played(NamedTuple):
    """A state: the actions that led to it, and its reward, which reveals a replay that leads elsewhere."""

    task: EnvTask
    actions: tuple[str, ...]
    reward: float


class Replayed(Environment):
    """Records and replays actions. A subclass starts a game, acts in it, and may know a solution."""

    def __init__(self, options: EnvOptions) -> None:
        super().__init__(options)
        self._task: EnvTask | None = None  # None: no game is running
        self._actions: list[str] = []
        self._at = Step("", 0.0, False)
        self._gold: tuple[str, list[str] | None] = ("", None)  # task id, and its solution from the start

    @abstractmethod
    def _begin(self, task: EnvTask) -> str:
        """Start the task's game and return the first observation."""

    @abstractmethod
    def _act(self, text: str) -> Step:
        """Do an action in a running game."""

    @abstractmethod
    def _solution(self, task: EnvTask) -> list[str] | None:
        """Return actions that solve the task from its start, if known. May leave the game in any state."""

    def reset(self, task: EnvTask) -> str:
        """Start the task."""
        self._task = None  # stays so if starting fails
        text = self._begin(task)
        self._task, self._actions, self._at = task, [], Step("", 0.0, False)
        return text

    def _step(self, text: str) -> Step:
        self._running()
        if self._at.done:
            return Step(_OVER, self._at.reward, True, {"executed": False})
        self._at = self._act(text)
        self._actions.append(text)
        return self._at

    def _reflected(self) -> Step:
        return Step(REFLECT_REPLY, self._at.reward, self._at.done, {"executed": True})

    def _running(self) -> EnvTask:
        if self._task is None:
            raise RuntimeError(f"{self.name}: no game is running; call reset with a task first")
        return self._task

    def snapshot(self) -> Played:
        """Return the actions that led to the current state."""
        return Played(self._running(), tuple(self._actions), self._at.reward)

    def restore(self, state: Played) -> None:
        """Return to a state, or continue to it if the game is on the way there.

        Raises ReplayError if the actions lead elsewhere this time.
        """
        done = len(self._actions)
        on_the_way = self._task is not None and self._task.id == state.task.id
        if not on_the_way or tuple(self._actions) != state.actions[:done]:
            self.reset(state.task)
            done = 0
        self.replayed += len(state.actions) - done
        for text in state.actions[done:]:
            self._step(text)
        if abs(self._at.reward - state.reward) > _SAME:
            raise ReplayError(
                f"{self.name}: {len(state.actions)} actions of task {state.task.id} gave reward "
                f"{self._at.reward:g} in a replay, {state.reward:g} before"
            )

    def oracle(self) -> list[str] | None:
        """Return the rest of the game's own solution, provided every action so far belongs to it."""
        task = self._running()
        if self._at.done:
            return [] if self._at.reward >= 1 else None
        if self._gold[0] != task.id:
            state = self.snapshot()
            self._gold = (task.id, self._solution(task))
            self._task = None
            self.restore(state)
        solution, done = self._gold[1], len(self._actions)
        return None if solution is None or solution[:done] != self._actions else solution[done:]

    def state_hash(self) -> str:
        """Hash the task and the actions so far: a state may have several hashes, but none of another."""
        task = self._running()
        return digest([task.id, "over", self._at.reward] if self._at.done else [task.id, self._actions])
