"""Judging without Ray, with a scripted model at every seat.

A stage's function and steps run over rows in memory.
"""

import asyncio
import functools
import re
from collections.abc import Callable
from typing import Any

import orjson

from pipeline.config import Recipe
from pipeline.engines.base import Completion, Request, Sampling
from pipeline.methods import Stage
from pipeline.prompts import Prompts
from pipeline.rows import Dropped, Kept, Row
from pipeline.runner.llm import LLM
from stages.steps import verifiers
from tests.conftest import tiny_recipe

Says = Callable[[Request], str | Completion]


def recipe_with(verifier: Any, **changes: Any) -> Recipe:
    """A recipe whose tasks have no answers, unless `changes` say otherwise."""
    tasks = {"source": "jsonl", "path": "t.jsonl", "columns": {"answer": None}, "answer_type": "text"}
    return tiny_recipe(**{"tasks": tasks, "verifier": verifier, **changes})


def answer(task: str, text: str, number: int = 0, **more: Any) -> Row:
    payload = {"task_id": task, "question": f"What is {task}?", "text": text, "answer": None, **more}
    payload = {"answer_type": "text", "options": None, "completion_tokens": len(text.split()), **payload}
    return Row(f"{task}-{number}", payload)


class Judged:
    """What became of rows, the requests that were sent, and the stage's summary."""

    def __init__(self, recipe: Recipe, rows: list[Row], says: Says) -> None:
        self.stage: Stage = verifiers.stage(recipe)
        self._prompts = Prompts.of(recipe)
        self.requests: list[Request] = []
        self.kept: dict[str, Row] = {}
        self.dropped: dict[str, tuple[Dropped, Row]] = {}
        self._says = says
        asyncio.run(self._run(rows))

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        dropped = [(why.reason, row) for why, row in self.dropped.values()]
        return self.stage.summary(list(self.kept.values()), dropped)

    @property
    def reasons(self) -> dict[str, str]:
        return {id_: why.reason for id_, (why, _) in self.dropped.items()}

    async def _run(self, rows: list[Row]) -> None:
        given = (
            rows
            if self.stage.completed is None
            else list(self.stage.completed(lambda: iter(rows), len(rows)))
        )
        assert sorted(row.id for row in given) == sorted(row.id for row in rows)
        made, first = [], {}
        for row in given:
            outcome = await self.stage.row(row, LLM(self._send, row.id, "m@1", Sampling(), 1, self._prompts))
            assert isinstance(outcome, Kept)
            made += outcome.rows
            first[outcome.rows[0].id] = row.id
        for step in self.stage.steps.values():
            passed = []
            for row, why in step(lambda made=made: iter(made)):
                if isinstance(why, Dropped):
                    self.dropped[first[row.id]] = (why, row)
                else:
                    passed.append(row)
            made = passed
        self.kept = {first[row.id]: row for row in made}

    async def _send(self, request: Request) -> list[Completion]:
        self.requests.append(request)
        said = self._says(request)
        return [said if isinstance(said, Completion) else Completion(said, "stop", 10, 5)]


def score(value: Any, reason: str = "so it is") -> str:
    """The reply of a pointwise judge."""
    return orjson.dumps({"reason": reason, "score": value}).decode()


def better(which: str) -> str:
    """The reply of a pairwise judge."""
    return orjson.dumps({"reason": "it is", "better": which}).decode()


def shown_texts(request: Request) -> list[str]:
    """The texts between fences in the last message of a judge's prompt."""
    prompt = request.messages[-1]["content"]
    fence = re.search(r"^=== \w{12} ===$", prompt, re.MULTILINE)[0]
    return [part.strip("\n") for part in prompt.split(fence)[1::2]]
