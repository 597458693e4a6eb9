"""EntiGraph on one document, with a model that a function plays."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from pipeline.config import Recipe
from pipeline.engines.base import Completion, Request, Sampling
from pipeline.rows import Dropped, Kept, Row
from pipeline.runner.llm import LLM
from stages.methods.entigraph.method import EntiGraph
from tests.conftest import tiny_recipe
from tests.stages.methods.entigraph.answers import writes

NAMES = ["Ada", "the loom", "Marseille", "silver", "the long winter"]
DOCUMENT = (
    f"The Weavers\n\nThings: {', '.join(NAMES)}.\n\n" + " ".join(f"sentence{i}" for i in range(80)) + "."
)
Script = Callable[[Request, int], Any]


def recipe_of(**method: Any) -> Recipe:
    return tiny_recipe(
        method={"name": "entigraph", **method},
        train={"kind": "cpt"},
        tasks={"source": "documents", "path": "d", "columns": {"answer": None}},
    )


class Model:
    """A model whose finished requests are in a log, as in a run. `fails` says which requests raise what."""

    def __init__(
        self, script: Script = writes, fails: Callable[[Request], Exception | None] = lambda request: None
    ) -> None:
        self.script, self.fails = script, fails
        self.log: dict[str, list[Completion]] = {}
        self.asked: list[Request] = []

    async def __call__(self, request: Request) -> list[Completion]:
        await asyncio.sleep(0)
        if (key := request.key("m@1")) not in self.log:
            self.asked.append(request)
            if error := self.fails(request):
                raise error
            made = [self.script(request, i) for i in range(request.n)]
            self.log[key] = [
                m if isinstance(m, Completion) else Completion(m, "stop", 10, len(m.split())) for m in made
            ]
        return self.log[key]

    def steps(self) -> Counter[str]:
        return Counter(r.step.split("/")[1] for r in self.asked)


def llm(model: Model, row: Row, round_: int = 1) -> LLM:
    return LLM(model, row.id, "m@1", Sampling(max_tokens=300), round_)


def task(document: str = DOCUMENT) -> Row:
    return Row("doc1", {"task_id": "doc1", "question": document, "answer": None})


def generate(model: Model, document: str = DOCUMENT, round_: int = 1, **method: Any) -> Any:
    row = task(document)
    return asyncio.run(EntiGraph(recipe_of(**method)).generate(row, llm(model, row, round_)))


def through(outcome: Kept, model: Model, **method: Any) -> tuple[list[Row], Counter[str]]:
    """Give rows to critique and filter; return those that are kept, and why the others were dropped."""
    made, reasons, rows = EntiGraph(recipe_of(**method)), Counter(), outcome.rows
    for stage in (made.critique, made.filter):
        outcomes = [asyncio.run(stage(row, llm(model, row))) for row in rows]
        reasons.update(o.reason for o in outcomes if isinstance(o, Dropped))
        rows = [r for o in outcomes if isinstance(o, Kept) for r in o.rows]
    return rows, reasons
