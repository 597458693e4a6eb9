"""Agent-R's tasks: splits, demonstrations, evaluation, and recipes and sources with mistakes."""

import asyncio
import json
from typing import Any

import pytest

from pipeline.engines.base import Completion, Request
from pipeline.errors import ConfigError, DataError
from pipeline.rows import Dropped, Row
from pipeline.rundir import RunDir
from stages.environments import EnvTask
from stages.methods.agent_r.method import AgentR
from stages.steps.decontaminate import Asked, held_out
from stages.tasks import read_demonstrations, read_tasks, split_held_out
from stages.tasks.freeze import freeze
from tests.conftest import tiny_recipe
from tests.stages.methods.agent_r.scripted import METHOD, TASKS, method, model, task_rows
from tests.stages.methods.agent_r.search.counter import Counter
from tests.stages.methods.agent_r.search.player import completion, llm


def test_tasks_come_with_the_environments_own_split_and_nothing_else_is_held_out() -> None:
    train, held = task_rows(method())
    assert [r.payload["entry"]["id"] for r in train] == [f"train-{i}" for i in range(8)]
    assert [r.payload["entry"]["id"] for r in held] == [f"test-{i}" for i in range(5)]
    assert (
        len({r.id for r in train + held}) == 13
        and json.loads(json.dumps(train[0].payload)) == train[0].payload
    )
    assert train[0].payload["question"] == "Game train0: the number is 0, the target 3."
    rows = read_tasks(method().recipe.tasks, 0).rows
    with pytest.raises(DataError, match="held_out.count"):
        split_held_out(rows, tiny_recipe(held_out={"count": 3}).held_out, 0)
    with pytest.raises(DataError, match="at least one"):
        split_held_out(rows[:8], tiny_recipe().held_out, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {}}, "set how many tasks in options"),
        ({"options": {"train": 99}}, "99 are wanted \\(options.train\\)"),
        ({"options": {"trian": 9}}, "trian"),
        ({"options": {"train": 1, "environment": {"cuont": 9}}}, "count"),
        ({"dataset": "crating"}, "crafting"),
        ({"dataset": None}, "name of an environment"),
    ],
)
def test_mistakes_in_the_source_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, ConfigError), match=message):
        read_tasks(tiny_recipe(tasks={**TASKS, **change}).tasks, 0)


def test_held_out_games_are_no_demonstrations() -> None:
    source = {
        **TASKS,
        "options": {"train": 3, "test": 2, "oracle": True},
        "columns": {"solution": "solution"},
    }
    with pytest.raises(DataError, match="tasks of split test are held out"):
        read_demonstrations(tiny_recipe(tasks=source).tasks, 0)


def test_a_set_that_is_no_game_is_evaluated_as_questions_are() -> None:
    sums = {"source": "reasoning_gym", "dataset": "basic_arithmetic", "limit": 3}
    games = {**TASKS, "options": {"test": 2}}
    m = AgentR(tiny_recipe(tasks=TASKS, method=METHOD, evaluate={"sets": {"sums": sums, "games": games}}))
    assert (
        m.evaluation("sums") is None and m.evaluation("games") is not None and m.evaluation(None) is not None
    )
    row = Row(
        "q", {"question": "1 + 1?", "entry": {"metadata": {}}, "greedy": {"correct": True, "text": "2"}}
    )
    assert m.question(row) == [{"role": "user", "content": "1 + 1?"}] and m.measures([row]) == {}


def test_environments_that_are_processes_are_few_at_once_and_how_many_is_no_part_of_the_fingerprint() -> None:
    slow = {**TASKS, "dataset": "tests.stages.methods.agent_r.search.counter:Replayed"}
    assert [method(t)._games._most for t in (TASKS, slow)] == [None, 4] and method(
        slow, environments=2
    )._games._most == 2
    assert method(environments=2).options.fingerprint() == method().options.fingerprint()


def test_a_demonstration_is_the_solvers_episode_all_of_it_learnt() -> None:
    source = {**TASKS, "options": {"train": 3, "oracle": True}, "columns": {"solution": "solution"}}
    demonstrations = read_demonstrations(tiny_recipe(tasks=source).tasks, 0).rows
    example = method().examples(demonstrations[1])[0]
    assert [m["content"] for m in example.completion] == [
        "Action: add 2",
        "The number is 2.",
        "Action: add 2",
    ]
    assert example.learn == (True, False, True) and example.prompt == method().question(demonstrations[1])
    assert not {r.id for r in demonstrations} & {r.id for r in task_rows(method())[0]}


def test_fault_18_a_test_task_gets_no_tree() -> None:
    m = method()
    outcome = asyncio.run(m.generate(task_rows(m)[1][0], llm(model())))
    assert isinstance(outcome, Dropped) and outcome.reason == "held_out_task"


def test_evaluation_plays_greedily_and_counts_what_was_done() -> None:
    m = method(evaluate_steps=6)

    async def steady(request: Request) -> list[Completion]:
        assert request.n == 1
        return [completion("Action: add 1" if request.sampling.temperature == 0 else "Action: double")]

    rows = [asyncio.run(m.evaluation(None).row(row, llm(steady, row.id))).rows[0] for row in task_rows(m)[1]]
    assert [row.payload["greedy"]["correct"] for row in rows] == [
        True,
        True,
        True,
        True,
        False,
    ]  # targets 3 to 7, six steps
    measures = m.measures(rows)
    assert (
        measures["steps"] == [3.0, 4.0, 5.0, 6.0, 6.0]
        and measures["loops of 1"] == [2.0, 3.0, 4.0, 5.0, 5.0]
        and measures["score"][4] == 0.0
    )
    assert set(map(len, measures.values())) == {5} and measures["executed"] == [1.0] * 5


def test_recipes_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="tasks.source"):
        method(tasks={"source": "jsonl", "path": "x"})
    for key, setting in (("demonstrations", "demonstrations.source"), ("held_out", "held_out.source.source")):
        other = {"source": "jsonl", "path": "x.jsonl"}
        with pytest.raises(ConfigError, match=rf"{setting} is 'jsonl', expected 'environment'"):
            AgentR(
                tiny_recipe(
                    tasks=TASKS, method=METHOD, **{key: {"source": other} if key == "held_out" else other}
                )
            )
    with pytest.raises(ConfigError, match="train.kind"):
        method(train={"kind": "dpo"})


def test_a_demonstration_has_the_turns_of_its_environment() -> None:
    tasks = {
        "source": "environment",
        "dataset": "tests.stages.methods.agent_r.search.counter:Coder",
        "options": {"train": 1, "oracle": True},
        "columns": {"solution": "solution"},
    }
    m = method(tasks)
    [row] = read_demonstrations(m.recipe.tasks, 0).rows
    assert m.examples(row)[0].completion[0]["content"] == "Action:\n```\nadd 2\n```"


class Wordy(Counter):
    """Its tasks differ in the last words of a long text."""

    name = "wordy"

    def reset(self, task: EnvTask) -> str:
        kitchen = "You are in a kitchen with a stove, a sink, a table, two chairs, a cupboard and a lamp."
        return f"{kitchen} {super().reset(task)}"


class Shared(Wordy):
    disjoint_splits = False


@pytest.mark.parametrize(("cls", "kept"), [("Wordy", 8), ("Shared", 0)])
def test_tasks_of_disjoint_splits_share_words_without_a_leak(run: RunDir, cls: str, kept: int) -> None:
    """Neither freezing nor publishing searches them for words of held-out tasks; only an equal text is
    refused.
    """
    tasks = {**TASKS, "dataset": f"{__name__}:{cls}", "options": {"train": 8, "test": 1}}
    recipe = tiny_recipe(tasks=tasks, method=METHOD)
    rows = read_tasks(recipe.tasks, 0).rows
    held = [row for row in rows if row.payload["split"] == "test"]
    if kept:
        freeze(run, recipe)
        assert run.manifest(run.tasks("train")).rows_out == kept
    else:
        with pytest.raises(DataError, match="shares 13 consecutive words with a held-out question"):
            freeze(run, recipe)
    answers = [Row(row.id, {**row.payload, "text": "Action: add 1"}) for row in rows]
    step = held_out([Asked.of(row.payload) for row in held], 13)
    reasons = {
        row.payload["entry"]["id"]: dropped.reason for row, dropped in step(lambda: answers) if dropped
    }
    assert reasons.pop("test-0") == "held_out_exact" and len(reasons) == 8 - kept
    assert set(reasons.values()) <= {"held_out_ngram"}
