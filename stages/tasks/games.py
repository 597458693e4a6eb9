"""Tasks of a text environment. The environment itself says which are to learn from and which to be evaluated with."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.config import Source
from pipeline.console import console
from pipeline.errors import DataError
from stages.environments import Environment, EnvTask, Split, make
from stages.tasks.records import BadRow, RawRow, Repeat

SOURCE = "environment"
LEARN_FROM, HOLD_OUT = "train", "test"  # splits


class GameOptions(BaseModel):
    """`options` of the source: how many tasks of which split, and what the environment itself takes."""

    model_config = ConfigDict(extra="forbid")

    train: int = Field(0, ge=0)
    test: int = Field(0, ge=0)
    oracle: bool = Field(
        False, description="play each task with the environment's own solver, for demonstrations"
    )
    environment: dict[str, Any] = Field(default_factory=dict, description="options of the environment")


def environment(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    """Yield the first `train` and `test` tasks of the environment `source.dataset`, each with its rules and first observation.

    What the environment makes depends on its options alone, not on `seed`. With `oracle` a row has a solution: the actions that
    the solver took, and what was observed. Raises DataError for options that do not fit, and when there are fewer tasks than wanted.
    """
    if not source.dataset:
        raise DataError("source environment needs the name of an environment, such as dataset: crafting.")
    try:
        options = GameOptions.model_validate(source.options)
    except ValidationError as e:
        wrong = "; ".join(
            f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in e.errors(include_url=False)
        )
        raise DataError(
            f"source environment: options {wrong}. There are train, test (how many tasks), oracle, and environment (its options)."
        ) from None
    if not options.train and not options.test:
        raise DataError(
            "source environment: options must say how many tasks of each split, such as {train: 200, test: 100}."
        )
    if options.oracle and options.test:
        raise DataError(
            "source environment: episodes of the solver (oracle: true) are to learn from, and tasks of split test are held out: leave options.test out."
        )
    played = make(source.dataset, options.environment)
    try:
        for note in played.notes():
            console.print(f"{source.dataset}: {note}", markup=False)
        for split, wanted in ((LEARN_FROM, options.train), (HOLD_OUT, options.test)):
            yield from _tasks(source.dataset, played, split, wanted, options)
    finally:
        played.close()


def in_the_game_of(tasks: Source, demonstrations: Source) -> Source:
    """Return `demonstrations` of source environment that name none as episodes of the environment that the tasks are of."""
    if demonstrations.source != SOURCE or tasks.source != SOURCE or demonstrations.dataset:
        return demonstrations
    options = {"environment": tasks.options.get("environment", {}), **demonstrations.options}
    return demonstrations.model_copy(update={"dataset": tasks.dataset, "options": options})


def _tasks(
    name: str, played: Environment, split: Split, wanted: int, options: GameOptions
) -> Iterator[RawRow | BadRow]:
    count = 0
    for task in islice(played.tasks(split), wanted):
        count += 1
        yield _row(name, played, task, options)
    if count < wanted:
        raise DataError(
            f"environment {played.name} has {count} tasks of split {split} with these options; {wanted} are wanted (options.{split})."
        )


def _row(name: str, played: Environment, task: EnvTask, options: GameOptions) -> RawRow | BadRow:
    where = f"{played.name}[{task.id}]"
    try:
        first = played.reset(task)
        episode = _oracle_episode(played) if options.oracle else None
    except Exception as e:  # whatever a game raises is one bad row: recorded, and the others go on
        return BadRow(where, f"could not be played: {type(e).__name__}: {e}")
    if options.oracle and episode is None:
        return BadRow(where, "the environment's own solver does not solve it")
    entry = {
        "environment": name,  # as the recipe has it: a "module:Class" is not known by its name elsewhere
        "options": options.environment,
        "version": played.version,
        "id": task.id,
        "split": task.split,
        "spec": task.spec,
        "tags": list(task.tags),
        "rules": played.rules,
        **({"episode": episode} if episode else {}),
    }
    solution = "\n".join(step["action"] for step in episode) if episode else None
    values = {"question": first, "answer": None, "solution": solution, "entry": entry}
    return RawRow(where, values, f"{task.id}/oracle" if options.oracle else task.id, task.split)


def _oracle_episode(played: Environment) -> list[dict[str, str]] | None:
    """Play the solver's actions; return them with what was observed, or None when they do not end with reward 1."""
    episode, reward = [], 0.0
    for action in played.oracle() or ():
        step = played.step(action)
        episode.append({"action": action, "observation": step.observation})
        reward = step.reward
        if step.done:
            break
    return episode if reward == 1.0 else None
