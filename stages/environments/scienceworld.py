"""ScienceWorld (package scienceworld, Apache-2.0): 30 kinds of primary-school experiments.

A Java process takes about 1.2 GB. The simulator's own `step` lists every valid action each time (4 to 23
steps/s), so its server is called directly, and lists them only for `valid_actions`.
"""

from typing import Any

from pydantic import Field

from pipeline.errors import ConfigError
from stages.environments.base import EnvOptions, EnvTask, Split, Step
from stages.environments.java import JavaGame, PerSplit, bare

_REFUSALS = ("No known action matches", "Ambiguous request")  # how the simulator's replies to them begin


class ScienceWorldOptions(EnvOptions):
    """Which experiments."""

    experiments: list[str] | None = Field(None, description="names, such as boil or find-plant; null: all 30")
    simplifications: str = Field(
        "",
        description="comma-separated: teleportAction, openDoors, openContainers, selfWateringFlowerPots, "
        "noElectricalAction; or easy",
    )
    tasks: PerSplit = Field(default_factory=PerSplit)


class ScienceWorld(JavaGame):
    """The reward is the score / 100. A score below 0 (a wrong focus) ends the game with reward 0."""

    name = "scienceworld"
    kind = "experiment"
    at_once = 4
    package = "scienceworld"
    Options = ScienceWorldOptions
    rules_prompt = "agent_r/rules_scienceworld"

    def _start(self) -> Any:
        from scienceworld import ScienceWorldEnv

        return ScienceWorldEnv("")

    def _specs(self, split: Split) -> list[list[dict[str, Any]]]:
        server, o = self._started().server, self.options
        names = list(server.getTaskNames())
        wanted = o.experiments or names
        if unknown := [name for name in wanted if name not in names]:
            there = ", ".join(names)
            raise ConfigError(f"environment {self.name}: no experiment {unknown[0]!r}; there are: {there}")
        limit, specs = getattr(o.tasks, split), []
        for name in wanted:
            self._load_experiment(name, 0, o.simplifications)
            numbers = sorted(getattr(server, f"getVariations{split.capitalize()}")())[:limit]
            specs.append(
                [{"experiment": name, "variation": n, "simplifications": o.simplifications} for n in numbers]
            )
        return specs

    def _load_experiment(
        self, experiment: str, variation: int, simplifications: str, solve: bool = False
    ) -> Any:
        what = f"{experiment} cannot be loaded with simplifications {simplifications!r}"
        return self._load(what, experiment, variation, simplifications, solve)

    def _begin(self, task: EnvTask) -> str:
        server = self._load_experiment(**task.spec).server
        server.reset()
        return f"{server.getTaskDescription()}\n\n{sorted_listing(server.step('look around'))}"

    def _act(self, text: str) -> Step:
        server = self._env.server
        observation = str(server.step(bare(text)))
        score = round(100 * server.getScore()) / 100
        done = bool(server.getCompleted()) or score < 0
        info = {"executed": not observation.startswith(_REFUSALS)}
        return Step(sorted_listing(observation), min(1.0, max(0.0, score)), done, info)

    def _solution(self, task: EnvTask) -> list[str]:
        return list(self._load_experiment(**task.spec, solve=True).server.getGoldActionSequence())

    def valid_actions(self) -> list[str]:
        """Return every action that has an effect now, sorted: hundreds to thousands, in about 0.15 s."""
        self._running()
        return [] if self._at.done else sorted(self._env.server.getValidActionObjectCombinations())


def sorted_listing(text: str) -> str:
    """Sort each run of indented lines, since the simulator lists a room in another order after each reset.

    A line that is indented further stays below the one before it.
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
