"""An environment as a search uses it: it returns to any node's state and counts steps. And a pool of them."""

import asyncio
import atexit
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from pipeline import thoughts
from pipeline.errors import DataError
from pipeline.ids import digest
from stages.environments import Environment, EnvTask, Move, Step, make


class Game:
    """One task's game. Blocking: call it in a thread.

    `steps` counts actions, `restored` returns to an earlier state, `replayed` the actions repeated to get
    there (0 in environments with snapshots).
    """

    def __init__(self, environment: Environment, task: EnvTask) -> None:
        self._environment, self._task = environment, task
        self._snapshots: dict[int, Any] = {}  # by node id, until the node is expanded
        self._at: int | None = None  # the node whose state the environment is in
        self.steps = self.restored = 0
        self._replayed_before = environment.replayed

    @property
    def replayed(self) -> int:
        return self._environment.replayed - self._replayed_before

    def start(self) -> tuple[str, str]:
        """Reset the game; return the first observation and the state's hash."""
        observation = self._environment.reset(self._task)
        self._snapshots, self._at = {0: self._environment.snapshot()}, 0
        return observation, self._environment.state_hash()

    def step(self, action: str) -> Step:
        """Play one action from the current state. Raises DataError for a reward outside [0, 1]."""
        step = self._environment.step(action)
        self.steps += 1
        self._at = None
        if not 0.0 <= step.reward <= 1.0:
            raise DataError(
                f"environment {self._environment.name}: reward {step.reward} after {action!r}; rewards must "
                "be within [0, 1]."
            )
        return step

    @staticmethod
    def said(reply: str) -> str:
        """Return a reply without thoughts: they are neither played, remembered nor learned."""
        return thoughts.without(reply)

    def parse(self, reply: str) -> Move:
        """Read a reply. Raises DataError if the environment's turn is not a beginning of it: what is learned
        must be what the model wrote.
        """
        said = self.said(reply)
        turn, action = self._environment.parse(said)
        if not said.startswith(turn):
            raise DataError(
                f"environment {self._environment.name}: parse returned the turn {turn[:80]!r}, which is no "
                f"beginning of the reply {said[:80]!r}."
            )
        return Move(turn, action)

    def bare_turn(self, action: str) -> str:
        """Return a turn with an action but no thought, as in demonstrations and replayed beginnings."""
        return self._environment.bare_turn(action)

    def steps_left(self) -> int | None:
        """Return the length of the solver's plan from here, None without one."""
        plan = self._environment.oracle()
        return None if plan is None else len(plan)

    def branch(self, node: int, actions: Sequence[str], first: int) -> list[tuple[Step, str]]:
        """Play each of `actions` from the state of `node`; return (outcome, hash of the state reached) each.

        The states reached get the ids from `first` on. Each action costs one step. An environment without
        snapshots also replays the path to `node` once per action, less the first if the game is there
        already. Raises ReplayError when a replay diverges.
        """
        snapshot, reached = self._snapshots.pop(node), []  # a node is expanded once
        for i, action in enumerate(actions, first):
            if self._at != node:
                self._environment.restore(snapshot)
                self.restored += 1
            step = self.step(action)
            if not step.done:
                self._snapshots[i], self._at = self._environment.snapshot(), i
            reached.append((step, self._environment.state_hash()))
        return reached


class Games:
    """A pool of environments, created on demand and reused, at most `most` of a kind (None: no limit)."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._idle: dict[str, list[Environment]] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def play(self, entry: dict[str, Any]) -> AsyncIterator[Game]:
        """Provide the game of a task row's `entry` (see stages.tasks.games) for the duration of the block."""
        task = EnvTask(entry["id"], entry["split"], entry["spec"], tuple(entry["tags"]))
        key = digest([entry["environment"], entry["options"]])
        if self._most and key not in self._slots:
            self._slots[key] = asyncio.Semaphore(self._most)
        async with self._slots.get(key) or nullcontext():
            idle = self._idle.setdefault(key, [])
            environment = idle.pop() if idle else await self._new(entry)
            try:
                yield Game(environment, task)
            except BaseException:  # its state is unknown, and a process behind it must not leak
                environment.close()
                raise
            idle.append(environment)

    @staticmethod
    async def _new(entry: dict[str, Any]) -> Environment:
        # In a thread: starting a Java process takes seconds.
        environment = await asyncio.to_thread(make, entry["environment"], entry["options"])
        atexit.register(environment.close)
        return environment
