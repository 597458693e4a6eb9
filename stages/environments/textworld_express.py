"""TextWorldExpress: eight small text games with graded scores, folds and solutions (package textworld-express, Apache-2.0; needs Java).

One Java process for each object, started by the first game and ended by `close`.
"""

from collections.abc import Iterator
from typing import Any, Literal, get_args

from pydantic import Field

from pipeline.errors import ConfigError
from pipeline.ids import ID_CHARS, digest
from stages.environments import java
from stages.environments.base import EnvOptions, EnvTask, Split, Step
from stages.environments.replay import Replayed

Game = Literal[
    "cookingworld", "twc", "coin", "mapreader", "arithmetic", "sorting", "simonsays", "peckingorder"
]
_NO_LIMIT = 10**9  # steps; the caller limits them


class TextWorldExpressOptions(EnvOptions):
    """Which games, and how hard."""

    games: list[Game] = Field(default_factory=lambda: list(get_args(Game)), min_length=1)
    params: dict[Game, str] = Field(
        default_factory=dict, description="of a game, such as {coin: 'numLocations=4,numDistractorItems=2'}"
    )
    tasks: java.PerSplit = Field(default_factory=java.PerSplit)


class TextWorldExpress(Replayed):
    """The reward is the game's own score. What ends a game without success (wrong cooking) cannot be undone."""

    name = "textworld_express"
    at_once = 16
    package = "textworld-express"
    Options = TextWorldExpressOptions
    rules_prompt = "agent_r/rules_textworld_express"

    def __init__(self, options: TextWorldExpressOptions) -> None:
        java.require("textworld_express", self.name)
        super().__init__(options)
        self._env: Any = None
        self._loaded: tuple[str, str] | None = None
        self._valid: list[str] = []

    def tasks(self, split: Split) -> Iterator[EnvTask]:
        """Yield the fold's seeds, all games in turn, as the package divides them. Asking for the first task ends the game that is on."""
        seeds: dict[str, list[int]] = {}
        limit = getattr(self.options.tasks, split)
        for game in self.options.games:
            env = self._with_game(game)
            every = {
                "train": env.getValidSeedsTrain,
                "dev": env.getValidSeedsDev,
                "test": env.getValidSeedsTest,
            }[split]()
            seeds[game] = sorted(every)[:limit]
        self._task = None
        for game, seed in java.in_turn(seeds):
            spec = {"game": game, "params": self.options.params.get(game, ""), "seed": seed, "fold": split}
            yield EnvTask(digest([self.name, spec])[:ID_CHARS], split, spec, (f"game:{game}",))

    def _with_game(self, game: str, params: str | None = None) -> Any:
        """Return the package's environment with this game loaded. Raises ConfigError for parameters that it does not take."""
        if self._env is None:
            from textworld_express import TextWorldExpressEnv

            self._env = TextWorldExpressEnv(envStepLimit=_NO_LIMIT)
        wanted = (game, self.options.params.get(game, "") if params is None else params)
        if self._loaded != wanted:
            self._loaded = None
            try:
                self._env.load(*wanted)
            except ValueError as e:
                raise ConfigError(f"environment {self.name}: params.{game} {wanted[1]!r}: {e}") from e
            self._loaded = wanted
        return self._env

    def _begin(self, task: EnvTask) -> str:
        text, info = self._reset_to(task, False)
        self._valid = list(info["validActions"])
        return f"{info['taskDescription']}\n\n{text}"

    def _reset_to(self, task: EnvTask, solve: bool) -> tuple[str, dict[str, Any]]:
        spec = task.spec
        return self._with_game(spec["game"], spec["params"]).reset(
            seed=spec["seed"], gameFold=spec["fold"], generateGoldPath=solve
        )

    def _act(self, text: str) -> Step:
        action = " ".join(text.split()).rstrip(
            "."
        )  # siblings that differ in a full stop are one, so it must not decide what is done
        known = next((valid for valid in self._valid if valid.lower() == action.lower()), None)
        text, _, _, info = self._env.step(known or action)
        self._valid = list(info["validActions"])
        reward = min(1.0, max(0.0, float(info["score"])))
        done = reward >= 1 or any(info[end] in (True, "true") for end in ("tasksuccess", "taskfailure"))
        return Step(text, reward, done, {"executed": known is not None})

    def _solution(self, task: EnvTask) -> list[str]:
        self._reset_to(task, True)
        return list(self._env.getGoldActionSequence())

    def valid_actions(self) -> list[str]:
        """Return what the game says is possible now, sorted."""
        return [] if self._at.done else sorted(self._valid)

    def close(self) -> None:
        """End the Java process."""
        env, self._env, self._task, self._loaded = self._env, None, None, None
        java.end(env)
