"""A tiny environment: bring a number to a target.

Too far is lost for good; what is no action says so and changes nothing.
"""

from collections.abc import Iterator
from typing import Any

from stages.environments.actions import Move, several_lines
from stages.environments.base import REFLECT_REPLY, Environment, EnvOptions, EnvTask, ReplayError, Split, Step


class CounterOptions(EnvOptions):
    """Options of `counter`."""

    count: int = 10


class Counter(Environment):
    """States are numbers. `count` tasks in each split; the target of task i is 3 + i % 7."""

    name = "counter"
    Options = CounterOptions

    def __init__(self, options: CounterOptions | None = None) -> None:
        super().__init__(options or CounterOptions())
        self.count = self.options.count
        self.restored = self.resets = 0

    @property
    def rules(self) -> str:
        return "Bring the number to the target. Actions: add 1, add 2, double, end."

    def tasks(self, split: Split) -> Iterator[EnvTask]:
        for i in range(self.count):
            yield EnvTask(
                f"{split}-{i}", split, {"target": 3 + i % 7, "name": f"{split}{i}"}, (f"target {3 + i % 7}",)
            )

    def reset(self, task: EnvTask) -> str:
        self.resets += 1
        self.target, self.number, self.over = task.spec["target"], 0, False
        return f"Game {task.spec['name']}: the number is 0, the target {self.target}."

    def _step(self, text: str) -> Step:
        change = {
            "add 1": self.number + 1,
            "add 2": self.number + 2,
            "double": self.number * 2,
            "end": self.number,
        }.get(text)
        if self.over or change is None:
            return self._told(f"Nothing happens: {text!r} is no action.", executed=False)
        self.number, self.over = change, text == "end" or change >= self.target
        return self._told(f"The number is {self.number}.")

    def _reflected(self) -> Step:
        return self._told(REFLECT_REPLY)

    def _told(self, observation: str, executed: bool = True) -> Step:
        lost = self.number > self.target or (self.over and self.number < self.target)
        reward = 1.0 if self.number == self.target else 0.2 if lost else 0.0
        return Step(observation, reward, self.over, {"executed": executed})

    def snapshot(self) -> Any:
        return self.target, self.number, self.over

    def restore(self, state: Any) -> None:
        self.restored += 1
        self.target, self.number, self.over = state

    def oracle(self) -> list[str] | None:
        left = self.target - self.number
        return None if self.over else ["add 2"] * (left // 2) + ["add 1"] * (left % 2)

    def state_hash(self) -> str:
        return f"{self.target}/{self.number}/{self.over}"


class Replayed(Counter):
    """The same without snapshots: a state is gone back to by playing the way again."""

    name = "replayed"
    at_once = 4

    def reset(self, task: EnvTask) -> str:
        self.task, self.way = task, []
        return super().reset(task)

    def _step(self, text: str) -> Step:
        self.way.append(text)
        return super()._step(text)

    def snapshot(self) -> Any:
        return tuple(self.way), self.number

    def restore(self, state: Any) -> None:
        self.restored += 1
        self.reset(self.task)
        self.replayed += len(state[0])
        for text in state[0]:
            self._step(text)
        if self.number != state[1]:
            raise ReplayError(f"{state[0]} led to {self.number}, not to {state[1]}")


class Wild(Counter):
    """Its rewards are not within [0, 1]."""

    name = "wild"

    def _told(self, observation: str, executed: bool = True) -> Step:
        step = super()._told(observation, executed)
        return Step(step.observation, step.reward * 100, step.done, step.info)


class Coder(Counter):
    """Its actions are blocks of code: each line is one of the counter's actions."""

    name = "coder"

    def parse(self, text: str) -> Move:
        return several_lines(text)

    def bare_turn(self, action: str) -> str:
        return f"Action:\n```\n{action}\n```"

    def _step(self, text: str) -> Step:
        for line in text.splitlines():
            done = super()._step(line)
        return done
