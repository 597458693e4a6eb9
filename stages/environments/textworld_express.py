"""TextWorldExpress (package textworld-express, Apache-2.0): eight small text games with graded scores."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from pydantic import Field

from stages.environments.base import EnvOptions, EnvTask, Split, Step
from stages.environments.java import JavaGame, PerSplit, bare

Game = Literal[
    "cookingworld", "twc", "coin", "mapreader", "arithmetic", "sorting", "simonsays", "peckingorder"
]
_NO_LIMIT = 10**9  # steps; the caller limits them


class TextWorldExpressOptions(EnvOptions):
    """Which games, and how hard."""

    games: list[Game] = Field(default_factory=lambda: list(get_args(Game)), min_length=1)
    params: dict[Game, str] = Field(
        default_factory=dict, description="by game, such as {coin: 'numLocations=4,numDistractorItems=2'}"
    )
    tasks: PerSplit = Field(default_factory=PerSplit)


class TextWorldExpress(JavaGame):
    """The reward is the game's own score. An end without success (wrong cooking) cannot be undone."""

    name = "textworld_express"
    kind = "game"
    at_once = 16
    package = "textworld-express"
    Options = TextWorldExpressOptions
    rules_prompt = "agent_r/rules_textworld_express"

    _valid: Sequence[str] = ()

    def _start(self) -> Any:
        from textworld_express import TextWorldExpressEnv

        return TextWorldExpressEnv(envStepLimit=_NO_LIMIT)

    def _specs(self, split: Split) -> list[list[dict[str, Any]]]:
        limit = getattr(self.options.tasks, split)
        specs = []
        for game in self.options.games:
            params = self.options.params.get(game, "")
            env = self._load_game(game, params)
            seeds = getattr(env, f"getValidSeeds{split.capitalize()}")()
            specs.append(
                [{"game": game, "params": params, "seed": n, "fold": split} for n in sorted(seeds)[:limit]]
            )
        return specs

    def _load_game(self, game: str, params: str) -> Any:
        return self._load(f"params.{game} {params!r}", game, params)

    def _reset_to(self, task: EnvTask, solve: bool) -> tuple[str, dict[str, Any]]:
        spec = task.spec
        env = self._load_game(spec["game"], spec["params"])
        return env.reset(seed=spec["seed"], gameFold=spec["fold"], generateGoldPath=solve)

    def _begin(self, task: EnvTask) -> str:
        text, info = self._reset_to(task, False)
        self._valid = list(info["validActions"])
        return f"{info['taskDescription']}\n\n{text}"

    def _act(self, text: str) -> Step:
        action = bare(text)
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
        """Return the actions that the game lists as possible now, sorted."""
        return [] if self._at.done else sorted(self._valid)
