"""What the crafting tests share: environments with given options, and one small world written out by hand."""

from typing import Any

from stages.environments import EnvTask, make
from stages.environments.crafting import Crafting

# tarn takes 2 oriv and 1 mel; 2 sulk take a tarn and any gorf; a kabe is good for nothing
SPEC: dict[str, Any] = {
    "world": "by hand",
    "goal": "sulk",
    "recipes": [
        ["tarn", 1, [["oriv", 2], ["mel", 1]]],
        ["kabe", 1, [["tarn", 1]]],
        ["sulk", 2, [["tarn", 1], ["gorf", 1]]],
    ],
    "families": [["gorf", ["pel", "tiv"]]],
    "base": ["mel", "oriv", "pel", "tiv"],
    "stock": None,
    "spoils": False,
}


def crafting(**options: Any) -> Crafting:
    """Return the environment with these options."""
    env = make("crafting", options)
    assert isinstance(env, Crafting)
    return env


def playing(reward: str = "graded", **changes: Any) -> Crafting:
    """Return an environment in which SPEC, with `changes`, has just begun."""
    env = crafting(reward=reward)
    env.reset(EnvTask("by-hand", "train", {**SPEC, **changes}))
    return env


def play(env: Crafting, *actions: str) -> list[str]:
    """Do the actions and return the replies."""
    return [env.step(action).observation for action in actions]
