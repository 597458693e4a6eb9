"""ScienceWorld: 30 kinds of primary-school experiments (package scienceworld, Apache-2.0; needs Java).

One Java process of about 1.2 GB for each object, started by the first use and ended by `close`. The simulator's own `step` lists every
valid action each time (4 to 23 steps/s); its server is asked directly instead, and lists them only for `valid_actions`.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from pipeline.errors import ConfigError
from pipeline.ids import ID_CHARS, digest
from stages.environments import java
from stages.environments.base import EnvOptions, EnvTask, Split, Step
from stages.environments.replay import Replayed

_NOT_DONE = ("No known action matches", "Ambiguous request")  # how the simulator's refusals begin


class ScienceWorldOptions(EnvOptions):
    """Which experiments."""

    experiments: list[str] | None = Field(None, description="names, such as boil or find-plant; null: all 30")
    simplifications: str = Field(
        "",
        description="with commas: teleportAction, openDoors, openContainers, selfWateringFlowerPots, noElectricalAction; or easy",
    )
    tasks: java.PerSplit = Field(default_factory=java.PerSplit)


class ScienceWorld(Replayed):
    """The reward is the score over 100. A score below 0 (the wrong thing was focused on) ends the game with reward 0."""

    name = "scienceworld"
    at_once = 4
    package = "scienceworld"
    Options = ScienceWorldOptions
    rules_prompt = "agent_r/rules_scienceworld"

    def __init__(self, options: ScienceWorldOptions) -> None:
        java.require("scienceworld", self.name)
        super().__init__(options)
        self._env: Any = None
        self._loaded: tuple[Any, ...] | None = None

    def tasks(self, split: Split) -> Iterator[EnvTask]:
        """Yield the official variations of the split, all experiments in turn. Asking for the first task loads each experiment (half a
        second) and ends the game that is on."""
        env = self._started()
        names = list(env.server.getTaskNames())
        wanted = self.options.experiments or names
        if unknown := [name for name in wanted if name not in names]:
            raise ConfigError(
                f"environment {self.name}: there is no experiment {unknown[0]!r}; there are: {', '.join(names)}"
            )
        self._task, limit = None, getattr(self.options.tasks, split)
        variations: dict[str, list[int]] = {}
        for name in wanted:
            self._load(name, 0, self.options.simplifications)
            every = {
                "train": env.server.getVariationsTrain,
                "dev": env.server.getVariationsDev,
                "test": env.server.getVariationsTest,
            }[split]()
            variations[name] = sorted(every)[:limit]
        for name, variation in java.in_turn(variations):
            spec = {
                "experiment": name,
                "variation": variation,
                "simplifications": self.options.simplifications,
            }
            yield EnvTask(digest([self.name, spec])[:ID_CHARS], split, spec, (f"experiment:{name}",))

    def _started(self) -> Any:
        if self._env is None:
            from scienceworld import ScienceWorldEnv

            self._env = ScienceWorldEnv("")
        return self._env

    def _load(self, experiment: str, variation: int, simplifications: str, solve: bool = False) -> None:
        wanted = (experiment, variation, simplifications, solve)
        if self._loaded == wanted:
            return
        self._loaded = None
        try:
            self._started().load(*wanted)
        except ValueError as e:  # simplifications that do not exist, or do not go with the experiment
            raise ConfigError(
                f"environment {self.name}: {experiment} cannot be loaded with simplifications {simplifications!r}: {e}"
            ) from e
        self._loaded = wanted

    def _begin(self, task: EnvTask) -> str:
        spec = task.spec
        self._load(spec["experiment"], spec["variation"], spec["simplifications"])
        server = self._env.server
        server.reset()
        return f"{server.getTaskDescription()}\n\n{sorted_listing(server.step('look around'))}"

    def _act(self, text: str) -> Step:
        server = self._env.server
        observation = str(server.step(" ".join(text.split()).rstrip(".")))  # as siblings are told apart
        score = round(100 * server.getScore()) / 100
        done = bool(server.getCompleted()) or score < 0
        return Step(
            sorted_listing(observation),
            min(1.0, max(0.0, score)),
            done,
            {"executed": not observation.startswith(_NOT_DONE)},
        )

    def _solution(self, task: EnvTask) -> list[str]:
        spec = task.spec
        self._load(spec["experiment"], spec["variation"], spec["simplifications"], solve=True)
        return list(self._env.server.getGoldActionSequence())

    def valid_actions(self) -> list[str]:
        """Return every action that does something now, sorted: hundreds to thousands, in about 0.15 s."""
        self._on()
        return [] if self._at.done else sorted(self._env.server.getValidActionObjectCombinations())

    def close(self) -> None:
        """End the Java process."""
        env, self._env, self._task, self._loaded = self._env, None, None, None
        java.end(env)


def sorted_listing(text: str) -> str:
    """Return the text with each run of indented lines sorted: the simulator lists a room's things in another order after each reset.

    A line that is indented more than the one before it stays under that one.
    """
    out: list[str] = []
    entries: list[list[str]] = []
    for line in [*text.split("\n"), ""]:
        if line.startswith("\t\t") and entries:
            entries[-1].append(line)
        elif line.startswith("\t"):
            entries.append([line])
        else:
            out += [part for entry in sorted(entries) for part in entry] + [line]
            entries = []
    return "\n".join(out[:-1])
