"""Generated worlds: solvable tasks, disjoint splits, the same on every machine and in any order."""

import os
import subprocess
import sys
from itertools import islice, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.ids import ID_CHARS, digest
from stages.environments import SPLITS, EnvTask, make
from stages.environments.crafting.book import Book, Recipe
from tests.stages.environments.worlds import crafting

LISTING = """
import stages
from stages.environments import make

for task in make("crafting", {"tasks": {"train": 30}, "families": 2, "scarce": True}).tasks("train"):
    print(task)
"""


def names_in(task: EnvTask) -> set[str]:
    spec = task.spec
    return {*spec["base"], *(r[0] for r in spec["recipes"]), *(f for f, _ in spec["families"])}


def depth_of(task: EnvTask) -> int:
    recipes = tuple(Recipe(o, n, tuple((i, k) for i, k in used)) for o, n, used in task.spec["recipes"])
    return Book(recipes, tuple(task.spec["base"]), {f: tuple(m) for f, m in task.spec["families"]}).order[0][
        task.spec["goal"]
    ]


def on_the_way(task: EnvTask) -> set[str]:
    """Return the items to be crafted: all that the goal is made of, in a book with one recipe for each."""
    made_of = {output: used for output, _, used in task.spec["recipes"]}
    found: set[str] = set()
    todo = [task.spec["goal"]]
    while todo:
        item = todo.pop()
        if item in made_of:
            found.add(item)
            todo += [name for name, _ in made_of[item]]
    return found


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, object]:
    low = draw(st.integers(1, 6))
    high = draw(st.integers(low, 6))
    return {
        "seed": draw(st.integers(-(2**40), 2**40)),
        "depth": [low, high],
        "items": draw(st.integers(max(3, high + 1), 20)),
        "distractors": draw(st.integers(0, 6)),
        "families": draw(st.integers(0, 3)),
        "scarce": draw(st.booleans()),
        "spare": draw(st.integers(0, 2)),
        "irrecoverable": draw(st.booleans()),
        "reward": draw(st.sampled_from(["graded", "binary"])),
        "tasks": {"train": 8, "dev": 3, "test": 3},
    }


@given(shapes())
@settings(max_examples=120)
def test_the_oracle_solves_every_task(options: dict[str, object]) -> None:
    env = crafting(**options)
    for split in SPLITS:
        tasks = list(env.tasks(split))
        assert len(tasks) == options["tasks"][split] == len({t.id for t in tasks})
        for task in tasks:
            assert task.id == digest(["crafting", task.spec])[:ID_CHARS] and task.split == split
            assert options["depth"][0] <= depth_of(task) <= options["depth"][1] and task.tags == (
                f"depth:{depth_of(task)}",
            )
            assert len(task.spec["recipes"]) == len(on_the_way(task)) + options["distractors"]
            first = env.reset(task)
            plan = env.oracle()
            steps = [env.step(action) for action in plan]
            assert all(s.info["executed"] for s in steps), (first, plan)
            assert [s.done for s in steps] == [False] * (len(plan) - 1) + [True] and steps[-1].reward == 1
            assert all(s.reward < 1 for s in steps[:-1]) and env.oracle() == []


@pytest.mark.parametrize("reward", ["graded", "binary"])
def test_the_oracle_knows_exactly_when_it_is_too_late(reward: str) -> None:
    """In every state of small scarce worlds there is a plan if and only if some path leads to the goal."""
    env = crafting(
        depth=[1, 2], items=4, distractors=1, scarce=True, spare=0, reward=reward, tasks={"train": 40}
    )
    lost = worlds = 0
    for task in env.tasks("train"):
        env.reset(task)
        plans, comes_from, open_ = {}, {}, [env.snapshot()]
        goals = []
        while open_ and len(plans) < 1500:
            state = open_.pop()
            env.restore(state)
            here = env.state_hash()
            if here in plans:
                continue
            plans[here] = env.oracle()
            if state.won:
                goals.append(here)
            for action in moves(task):
                env.restore(state)
                if env.step(action).info["executed"]:
                    comes_from.setdefault(env.state_hash(), set()).add(here)
                    open_.append(env.snapshot())
        if open_:
            continue  # too many states to see them all
        worlds += 1
        while goals and (here := goals.pop()):
            if plans.pop(here, 0) is None:
                pytest.fail(f"no plan where there is a way: {task.spec}")
            goals += [before for before in comes_from.get(here, ()) if before in plans]
        assert all(plan is None for plan in plans.values()), f"a plan where there is no way: {task.spec}"
        lost += len(plans)
    assert worlds > 10 and lost > 100


def moves(task: EnvTask) -> list[str]:
    """All that can change a state: one more base item, or a recipe once with each member of its family."""
    families = dict(task.spec["families"])
    found = [f"get 1 {name}" for name in task.spec["base"]]
    for output, count, used in task.spec["recipes"]:
        for chosen in product(*(families.get(name, [name]) for name, _ in used)):
            found.append(
                f"craft {count} {output} using "
                + ", ".join(f"{n} {name}" for name, (_, n) in zip(chosen, used, strict=True))
            )
    return found


def test_splits_share_no_name_whatever_the_seed() -> None:
    seen = {split: set() for split in SPLITS}
    ids = {split: set() for split in SPLITS}
    for seed in range(3):
        for split in SPLITS:
            for task in islice(
                crafting(seed=seed, tasks={"train": None, "dev": None, "test": None}).tasks(split), 60
            ):
                seen[split] |= names_in(task)
                ids[split].add(task.id)
    assert all(len(v) == 180 for v in ids.values()) and all(len(v) > 300 for v in seen.values())
    assert not seen["train"] & (seen["dev"] | seen["test"]) and not seen["dev"] & seen["test"]


def test_a_smaller_split_is_the_beginning_of_a_larger() -> None:
    small, large = (list(crafting(tasks={"train": n}).tasks("train")) for n in (5, 20))
    assert small == large[:5]


def test_tasks_are_the_same_for_every_hash_seed_and_every_machine() -> None:
    outputs = set()
    for hash_seed in ("0", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", LISTING],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1 and len(outputs.pop().splitlines()) == 30
    assert [t.id for t in islice(crafting().tasks("train"), 3)] == GOLDEN_IDS


GOLDEN_IDS = ["91221523db62adb861dc", "854542a0017431272823", "8f873fd9b5f603510b70"]


def test_first_observations_are_short() -> None:
    """At depth 1 and 2: under 200 tokens of the packaged model, at about 1.85 characters a token here."""
    env = crafting(depth=[1, 2], tasks={"train": 300})
    assert max(len(env.reset(task)) for task in env.tasks("train")) < 365


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dept": 2}, "environment crafting: there is no option 'dept'. Did you mean 'depth'?"),
        ({"xyz": 2}, "there is no option 'xyz'. Its options: base, depth, distractors"),
        ({"tasks": {"trian": 2}}, "there is no option 'tasks.trian'"),
        ({"depth": [3, 1]}, "depth is [3, 1]; expected the least and the most, such as [1, 3]"),
        ({"depth": 7, "items": 9}, "depth goes up to 6 in procedural worlds, not 7"),
        ({"depth": [1, 4], "items": 4}, "items is 4: a goal of depth 4 takes at least 5"),
        ({"distractors": -1}, "distractors: Input should be greater than or equal to 0 (given: -1)"),
        ({"recipes_file": "x.json"}, "recipes_file: only with source: file"),
        ({"source": "file"}, "source is file: set recipes_file"),
    ],
)
def test_wrong_options_are_explained(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as e:
        make("crafting", options)
    assert said in str(e.value)


def test_what_an_environment_is_goes_into_fingerprints() -> None:
    a, b = crafting(seed=1).identity(), crafting(seed=2).identity()
    assert a != b and a["name"] == "crafting" and a["options"]["depth"] == [1, 3]
