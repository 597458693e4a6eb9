"""An environment as a search uses it: any node's state can be gone back to, and every step is counted. And enough of them for all rows."""

import asyncio
import atexit
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.errors import DataError
from pipeline.ids import digest
from stages.environments import Environment, EnvTask, Step, make


@dataclass(slots=True, frozen=True)
class Reached:
    """The state that an action led to."""

    step: Step
    state: str


class Game:
    """One task's game. Blocking: call it in a thread. `steps` counts actions done, `restored` how often a state was gone back to,
    `replayed` the actions that were done once more for that (none where the environment has snapshots)."""

    def __init__(self, environment: Environment, task: EnvTask) -> None:
        self._environment, self._task = environment, task
        self._kept: dict[int, Any] = {}  # node id: its state, until it is expanded
        self._at: int | None = None  # the node whose state the environment is in
        self.steps = self.restored = 0
        self._replayed_before = environment.replayed

    @property
    def replayed(self) -> int:
        return self._environment.replayed - self._replayed_before

    def start(self) -> tuple[str, str]:
        """Begin anew; return the first observation and the state."""
        observation = self._environment.reset(self._task)
        self._kept, self._at = {0: self._environment.snapshot()}, 0
        return observation, self._environment.state_hash()

    def step(self, action: str) -> Step:
        """Do one action where the game is. Raises DataError for a reward outside [0, 1] (F11)."""
        step = self._environment.step(action)
        self.steps += 1
        self._at = None
        if not 0.0 <= step.reward <= 1.0:
            raise DataError(
                f"environment {self._environment.name}: reward {step.reward} after {action!r}; rewards must be within [0, 1]."
            )
        return step

    def steps_left(self) -> int | None:
        """Return how many actions of the environment's own solver lead to the goal from here, None if it knows no way."""
        plan = self._environment.oracle()
        return None if plan is None else len(plan)

    def branch(self, node: int, actions: Sequence[str], first: int) -> list[Reached]:
        """Do each of `actions` from the state of `node`; the states they lead to get the ids from `first` on.

        Each costs one step. Where the environment has no snapshots, going back replays the way to `node`: once for each state that is
        made, less the first if the game is there already, and never for each sample. Raises ReplayError when a replay goes another way.
        """
        state, reached = self._kept.pop(node), []  # a node is expanded once
        for i, action in enumerate(actions, first):
            if self._at != node:
                self._environment.restore(state)
                self.restored += 1
            step = self.step(action)
            if not step.done:
                self._kept[i], self._at = self._environment.snapshot(), i
            reached.append(Reached(step, self._environment.state_hash()))
        return reached


class Games:
    """Environments for many rows at once: made when one is wanted and none is free, used again, and never more than `most` of a kind."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._free: dict[str, list[Environment]] = {}
        self._room: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def play(self, entry: dict[str, Any]) -> AsyncIterator[Game]:
        """Give the game of a task row's `entry` (see stages.tasks.games) for as long as the block runs."""
        key = digest([entry["environment"], entry["options"]])
        if self._most and key not in self._room:
            self._room[key] = asyncio.Semaphore(self._most)
        room = self._room.get(key)
        if room:
            await room.acquire()
        try:
            free = self._free.setdefault(key, [])
            environment = free.pop() if free else await self._new(entry)
            try:
                yield Game(
                    environment, EnvTask(entry["id"], entry["split"], entry["spec"], tuple(entry["tags"]))
                )
            except (
                BaseException
            ):  # what state it is in is not known, and a process behind it must not be left over
                environment.close()
                raise
            free.append(environment)
        finally:
            if room:
                room.release()

    @staticmethod
    async def _new(entry: dict[str, Any]) -> Environment:
        environment = await asyncio.to_thread(
            make, entry["environment"], entry["options"]
        )  # a Java process takes seconds
        atexit.register(environment.close)
        return environment
