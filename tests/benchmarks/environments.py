"""How fast an environment is in one process:

    python -m tests.benchmarks.environments                     crafting, made-up worlds, default options
    python -m tests.benchmarks.environments textworld_express   another one, with its default options

Crafting is measured in CPU seconds, so that what else runs on the machine counts less. What runs in a Java
process is measured by the clock.
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

Clock = Callable[[], float]


def rate(clock: Clock, what: Callable[[], object], times: int = 20) -> float:
    """Return how often a second `what` can be done; the clock is read once for `times` of it."""
    done, began = 0, clock()
    while (spent := clock() - began) < SECONDS:
        for _ in range(times):
            what()
        done += times
    return done / spent


def step_rate(clock: Clock, env: Environment, scripts: list[tuple[EnvTask, list[str]]]) -> float:
    """Return steps/s along the oracle's plans, resets not counted."""
    done, spent, rng = 0, 0.0, random.Random(0)
    while spent < SECONDS:
        task, plan = rng.choice(scripts)
        env.reset(task)
        began = clock()
        for action in plan:
            env.step(action)
        spent += clock() - began
        done += len(plan)
    return done / spent


def figures(clock: Clock, env: Environment, tasks: list[EnvTask]) -> dict[str, float]:
    """Return what can be done a second.

    Restores go to and fro between the end of the longest game and its middle.
    """
    scripts = []
    for task in tasks:
        env.reset(task)
        scripts.append((task, env.oracle() or []))
    rng = random.Random(0)
    found = {
        "steps": step_rate(clock, env, scripts),
        "resets": rate(clock, lambda: env.reset(rng.choice(tasks)), 1),
    }
    task, plan = max(scripts, key=lambda script: len(script[1]))
    env.reset(task)
    half = len(plan) // 2
    for action in plan[:half]:
        env.step(action)
    middle = env.snapshot()
    found |= {
        "snapshots": rate(clock, env.snapshot),
        "plans": rate(clock, env.oracle, 1),
        "state hashes": rate(clock, env.state_hash),
    }
    for action in plan[half:]:
        env.step(action)
    end = env.snapshot()

    def to_and_fro() -> None:
        env.restore(middle)
        env.restore(end)

    return {**found, "restores": 2 * rate(clock, to_and_fro, 1)}


def main(arguments: list[str]) -> None:
    name = arguments[0] if arguments else "crafting"
    clock, unit = (
        (time.process_time, "a CPU second") if name == "crafting" else (time.perf_counter, "a second")
    )
    env = make(name)
    try:
        began = clock()
        tasks = list(islice(env.tasks("train"), TASKS))
        found = {"tasks made": len(tasks) / (clock() - began), **figures(clock, env, tasks)}
        print(f"{name}, {unit}: " + ", ".join(f"{what} {value:,.0f}" for what, value in found.items()))
    finally:
        env.close()


if __name__ == "__main__":
    main(sys.argv[1:])
