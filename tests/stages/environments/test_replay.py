"""Restoring by replay, what the Java environments say if something is missing, and both where installed."""

import asyncio
import importlib.util
import random
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import prompts
from pipeline.errors import ConfigError
from stages.environments import SPLITS, Environment, EnvTask, ReplayError, Split, Step, make
from stages.environments.base import EnvOptions
from stages.environments.replay import Replayed
from stages.environments.scienceworld import sorted_listing
from stages.methods.agent_r.search import Game, SearchSettings, search
from tests.stages.methods.agent_r.search.player import llm, player

TASK, OTHER = (EnvTask(name, "train", {"target": n}) for name, n in (("seven", 7), ("three", 3)))


class Counter(Replayed):
    """Count up to a target with "add 1" to "add 3"; overshooting ends it. `begun` counts games."""

    name = "counter"
    begun = 0
    drift = 0.0

    def tasks(self, split: Split) -> Iterator[EnvTask]:
        yield TASK

    def _begin(self, task: EnvTask) -> str:
        self.begun += 1
        self.total, self.target = 0, task.spec["target"]
        return f"Count to {self.target}."

    def _act(self, text: str) -> Step:
        known = text in ("add 1", "add 2", "add 3")
        self.total += int(text[-1]) if known else 0
        score = self.total / self.target + self.drift
        return Step(f"{self.total}", score if score <= 1 else 0.0, score >= 1, {"executed": known})

    def _solution(self, task: EnvTask) -> list[str]:
        self._begin(task)
        return ["add 3"] * (task.spec["target"] // 3) + ["add 1"] * (task.spec["target"] % 3)


ACTIONS = st.lists(st.sampled_from(["add 1", "add 2", "add 3", "nothing", "reflect"]), max_size=6)


def told(env: Environment, texts: list[str]) -> list[tuple[object, ...]]:
    return [
        (s.observation, s.reward, s.done, s.info, env.state_hash(), env.oracle())
        for s in map(env.step, texts)
    ]


@given(ACTIONS, ACTIONS, ACTIONS)
def test_restoring_is_exact(before: list[str], aside: list[str], after: list[str]) -> None:
    env = Counter(EnvOptions())
    env.reset(TASK)
    told(env, before)
    state = env.snapshot()
    expected = told(env, after)
    env.restore(state)
    assert told(env, aside) is not None
    env.reset(OTHER)
    env.restore(state)
    assert told(env, after) == expected


def test_going_on_to_a_state_does_not_begin_again() -> None:
    env = Counter(EnvOptions())
    env.reset(TASK)
    start = env.snapshot()
    told_ = [env.step("add 1").reward, env.step("add 2").reward]
    later = env.snapshot()
    env.restore(start)
    assert env.begun == 2
    env.restore(later)
    assert env.begun == 2 and env.step("reflect").reward == told_[1]


def test_the_solution_holds_as_long_as_it_was_followed() -> None:
    env = Counter(EnvOptions())
    env.reset(TASK)
    assert env.oracle() == ["add 3", "add 3", "add 1"]
    env.step("add 3")
    env.step("reflect")
    assert env.oracle() == ["add 3", "add 1"]
    env.step("add 1")
    assert env.oracle() is None
    told(env, ["add 3"])
    assert env.oracle() == [] and env.step("add 1") == Step(
        "The game is over.", 1.0, True, {"executed": False}
    )


def test_a_game_that_goes_another_way_when_played_again_is_noticed() -> None:
    env = Counter(EnvOptions())
    env.reset(TASK)
    told(env, ["add 1"])
    state = env.snapshot()
    env.reset(TASK)
    env.drift = 0.1
    with pytest.raises(ReplayError, match="1 actions of task seven gave reward 0.24"):
        env.restore(state)


class Unfinished(Environment):
    """What somebody's first try may look like."""

    def tasks(self, split: Split) -> Iterator[EnvTask]:
        yield TASK


def test_what_a_class_of_ones_own_lacks_is_said() -> None:
    with pytest.raises(
        ConfigError,
        match="its class lacks _reflected, _step, oracle, reset, restore, snapshot, state_hash, name, "
        "rules_prompt",
    ):
        make(f"{__name__}:Unfinished")
    with pytest.raises(ConfigError, match="expected a subclass of stages.environments.Environment"):
        make("math:sqrt")


@pytest.mark.parametrize("name", ["textworld_express", "scienceworld"])
def test_what_is_missing_is_said_with_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find, which = importlib.util.find_spec, shutil.which
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda module, *a: None if module == name else find(module, *a)
    )
    with pytest.raises(
        ConfigError,
        match=f"environment {name}: its package is not installed; install it with: "
        f"pip install -e '..{name.replace('_', '-')}.'",
    ):
        make(name)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda module, *a: object() if module == name else find(module, *a)
    )
    monkeypatch.setattr(shutil, "which", lambda command: None if command == "java" else which(command))
    with pytest.raises(ConfigError, match="there is no java on the PATH.*apt-get install"):
        make(name)


def test_listed_things_are_in_one_order() -> None:
    one = "You see: \n\ta door (open)\n\ta box. In it is:\n\t\ta pen\n\tair\nYou also see:\n\tthe hall"
    two = "You see: \n\tair\n\ta box. In it is:\n\t\ta pen\n\ta door (open)\nYou also see:\n\tthe hall"
    assert sorted_listing(one) == sorted_listing(two)
    assert sorted_listing(one).split("\n")[1:4] == ["\ta box. In it is:", "\t\ta pen", "\ta door (open)"]
    assert sorted_listing("Nothing.\n") == "Nothing.\n"


needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")


@needs_java
def test_textworld_express_games() -> None:
    pytest.importorskip("textworld_express")
    env = make("textworld_express", {"tasks": {"train": 1, "dev": 1, "test": 1}})
    try:
        tasks = {split: list(env.tasks(split)) for split in SPLITS}
        ids = [t.id for split in SPLITS for t in tasks[split]]
        assert len(ids) == 24 == len(set(ids))
        for task in tasks["train"]:
            first = env.reset(task)
            env.step("look around")
            state, plan = env.snapshot(), env.oracle()
            env.reset(task)
            plan = env.oracle()
            rewards = [env.step(action).reward for action in plan]
            assert rewards[-1] == 1 and all(0 <= r <= 1 for r in rewards), task.tags
            env.restore(state)
            assert env.step("reflect").reward == state.reward and env.reset(task) == first
            assert not env.step("no such action").info["executed"]
    finally:
        process = env._env._gateway.java_process
        env.close()
    assert process.poll() is not None


@pytest.mark.slow
@needs_java
def test_scienceworld_experiments() -> None:
    pytest.importorskip("scienceworld")
    env = make(
        "scienceworld",
        {
            "experiments": ["find-plant", "boil"],
            "simplifications": "easy",
            "tasks": {"train": 1, "dev": 1, "test": 1},
        },
    )
    try:
        ids = [t.id for split in SPLITS for t in env.tasks(split)]
        assert len(ids) == 6 == len(set(ids))
        task = next(env.tasks("train"))
        first = env.reset(task)
        plan = env.oracle()
        steps = [env.step(action) for action in plan]
        assert steps[-1].reward == 1 and steps[-1].done
        assert sorted(s.reward for s in steps) == [s.reward for s in steps]
        assert env.reset(task) == first
        wrong = random.Random(0).choice(
            [a for a in env.valid_actions() if a.startswith("focus on") and "air" in a]
        )
        end = env.step(wrong)
        assert (end.reward, end.done) == (0, True) and env.oracle() is None
        # Faults 3 and 4 of Agent-R: it can be searched, and what is done is the action without its label.
        game, opening = Game(env, task), prompts.render("agent_r/rules", rules=env.rules, observation=first)
        tree = asyncio.run(
            search(
                llm(player(moves=("look around", "inventory", "fly"))),
                game,
                opening,
                SearchSettings(4, 2, 2, 0.25, True, 0),
            )
        )
        assert {(n.action, n.executed) for n in tree.nodes[1:]} == {
            ("look around", True),
            ("inventory", True),
            ("fly", False),
        }
        assert tree.root.visits == len(tree.leaves()) > 0 and game.steps == len(tree.nodes) - 1
    finally:
        process = env._env._gateway.java_process
        env.close()
    assert process.poll() is not None
