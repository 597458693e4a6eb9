"""How fast the crafting environment is, in one process on one core:

    python -m tests.benchmarks.environments            made-up worlds with the default options
    python -m tests.benchmarks.environments textworld_express      or another environment, with its default options
"""

import random
import sys
import time
from collections.abc import Callable
from itertools import islice

import stages  # noqa: F401 - registers the environments
from stages.environments import Environment, EnvTask, make

SECONDS = 2.0  # of each measurement
TASKS = 200


def rate(what: Callable[[], int]) -> float:
    """Return how many a second, `what` being called over and over; it returns how many it did."""
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < SECONDS:
        done += what()
    return done / passed


def step_rate(env: Environment, scripts: list[tuple[EnvTask, list[str]]]) -> float:
    """Return steps/s along the oracle's plans, resets not counted."""
    done, spent, rng = 0, 0.0, random.Random(0)
    while spent < SECONDS:
        task, plan = rng.choice(scripts)
        env.reset(task)
        began = time.perf_counter()
        for action in plan:
            env.step(action)
        spent += time.perf_counter() - began
        done += len(plan)
    return done / spent


def figures(env: Environment, tasks: list[EnvTask]) -> dict[str, float]:
    """Return what can be done a second. Restores go to and fro between the end of the longest game and its middle."""
    scripts = []
    for task in tasks:
        env.reset(task)
        scripts.append((task, env.oracle() or []))
    rng = random.Random(0)
    found = {"steps": step_rate(env, scripts), "resets": rate(lambda: bool(env.reset(rng.choice(tasks))))}
    task, plan = max(scripts, key=lambda script: len(script[1]))
    env.reset(task)
    half = len(plan) // 2
    for action in plan[:half]:
        env.step(action)
    middle = env.snapshot()
    found |= {"snapshots": rate(lambda: env.snapshot() is not None), "plans": rate(lambda: env.oracle() is not None)}
    found["state hashes"] = rate(lambda: bool(env.state_hash()))
    for action in plan[half:]:
        env.step(action)
    end = env.snapshot()

    def to_and_fro() -> int:
        env.restore(middle)
        env.restore(end)
        return 2

    return {**found, "restores": rate(to_and_fro)}


def main(arguments: list[str]) -> None:
    name = arguments[0] if arguments else "crafting"
    env = make(name)
    try:
        began = time.perf_counter()
        tasks = list(islice(env.tasks("train"), TASKS))
        made = len(tasks) / (time.perf_counter() - began)
        found = {"tasks made": made, **figures(env, tasks)}
        print(f"{name}, a second: " + ", ".join(f"{what} {value:,.0f}" for what, value in found.items()))
    finally:
        env.close()


if __name__ == "__main__":
    main(sys.argv[1:])
