"""Tasks of a text environment, which sets itself which are to be trained on and which are held out."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.config import Source
from pipeline.console import progress as console
from pipeline.errors import DataError
from stages.environments import Environment, EnvTask, Split, make
from stages.tasks.records import BadRow, RawRow, Repeat

SOURCE = "environment"
LEARN_FROM: Split = "train"
HOLD_OUT: Split = "test"


class GameOptions(BaseModel):
    """`options` of the source: how many tasks of which split, and the environment's own options."""

    model_config = ConfigDict(extra="forbid")

    train: int = Field(0, ge=0)
    test: int = Field(0, ge=0)
    oracle: bool = Field(False, description="add the solver's episode, which makes a demonstration")
    environment: dict[str, Any] = Field(default_factory=dict, description="options of the environment")


def environment(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    """Yield the first `train` and `test` tasks of the environment `source.dataset`.

    Tasks depend on the environment's options alone, not on `seed`. With `oracle` a row has a solution,
    the solver's actions, and their observations. Raises DataError for unsuitable options, and if there
    are too few tasks.
    """
    options = _options(source)
    name = source.dataset or ""
    splits: tuple[tuple[Split, int], ...] = ((LEARN_FROM, options.train), (HOLD_OUT, options.test))
    env = make(name, options.environment)
    try:
        for note in env.notes():
            console.print(f"{name}: {note}", markup=False)
        for split, wanted in splits:
            count = 0
            for task in islice(env.tasks(split), wanted):
                count += 1
                yield _row(name, env, task, options)
            if count < wanted:
                text = f"{count} {split} tasks with these options; {wanted} are wanted (options.{split})"
                raise DataError(f"environment {env.name} has {text}.")
    finally:
        env.close()


def inherit_environment(demonstrations: Source, tasks: Source) -> Source:
    """Return `demonstrations`, in the tasks' environment if they are episodes and name none."""
    if demonstrations.source != SOURCE or tasks.source != SOURCE or demonstrations.dataset:
        return demonstrations
    options = {"environment": tasks.options.get("environment", {}), **demonstrations.options}
    return demonstrations.model_copy(update={"dataset": tasks.dataset, "options": options})


def _options(source: Source) -> GameOptions:
    if not source.dataset:
        raise DataError("source environment needs the name of an environment, such as dataset: crafting.")
    try:
        options = GameOptions.model_validate(source.options)
    except ValidationError as e:
        problems = (f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors(include_url=False))
        there = "There are train and test (numbers of tasks), oracle, and environment (its own options)."
        raise DataError(f"source environment: options {'; '.join(problems)}. {there}") from None
    if not options.train and not options.test:
        raise DataError("source environment: set how many tasks in options, as {train: 200, test: 100}.")
    if options.oracle and options.test:
        raise DataError(
            "source environment: the solver's episodes (oracle: true) are for training, and tasks of "
            "split test are held out: leave options.test out."
        )
    return options


def _row(name: str, env: Environment, task: EnvTask, options: GameOptions) -> RawRow | BadRow:
    where = f"{env.name}[{task.id}]"
    try:
        first = env.reset(task)
        episode = _oracle_episode(env) if options.oracle else None
    except Exception as e:  # whatever a game raises is one bad row
        return BadRow(where, f"could not be played: {type(e).__name__}: {e}")
    if options.oracle and episode is None:
        return BadRow(where, "the environment's own solver does not solve it")
    entry = {
        "environment": name,  # as in the recipe, since a "module:Class" has no other name elsewhere
        "options": options.environment,
        "version": env.version,
        "id": task.id,
        "split": task.split,
        "spec": task.spec,
        "tags": list(task.tags),
        "rules": env.rules,
        **({"episode": episode} if episode else {}),
    }
    solution = "\n".join(step["action"] for step in episode) if episode else None
    values = {"question": first, "answer": None, "solution": solution, "entry": entry}
    return RawRow(where, values, f"{task.id}/oracle" if options.oracle else task.id, task.split)


def _oracle_episode(env: Environment) -> list[dict[str, str]] | None:
    """Play the solver's actions and return them with their observations, or None if they miss reward 1."""
    episode, reward = [], 0.0
    for action in env.oracle() or ():
        step = env.step(action)
        said = env.bare_turn(action)
        turn = {} if said == f"Action: {action}" else {"turn": said}
        episode.append({"action": action, **turn, "observation": step.observation})
        reward = step.reward
        if step.done:
            break
    return episode if reward == 1.0 else None
