"""SELF on one task, with a model that says what a test tells it to."""

from collections.abc import Callable, Iterator
from typing import Any

from pipeline.engines.base import Completion, Request, Sampling
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM
from pipeline.stage import STAGES
from stages.methods.self.method import SelfEvolution
from tests.conftest import tiny_recipe

TRUTH = "918273"
TASK = Row(
    "t1", {"task_id": "t1", "question": "How many stars are there?", "answer": TRUTH, "answer_type": "number"}
)
WORDS = ("correct", "incorrect")
YES, NO = "Well done.\nVerdict: correct", "That cannot be.\nVerdict: incorrect"
ENDPOINT = {
    "kind": "openai",
    "base_url": "http://127.0.0.1:9/v1",
    "model": "teacher",
    "api_key_env": "TEACHER_KEY",
}
Say = str | Callable[[Request], str]


class Model:
    """Says for each step what it is told to, one after the other where a list is given.

    It remembers what it was asked.
    """

    def __init__(self, **said: Say | list[str]) -> None:
        self.said: dict[str, Iterator[str] | Say] = {
            k: iter(v) if isinstance(v, list) else v for k, v in said.items()
        }
        self.asked: list[Request] = []

    async def send(self, request: Request) -> list[Completion]:
        self.asked.append(request)
        text = self.said[request.step.rsplit("/", 1)[-1]]
        text = text if isinstance(text, str) else text(request) if callable(text) else next(text)
        return [Completion(text, "stop", 9, len(text.split())) for _ in range(request.n)]

    def llm(self, row: Row, round_: int) -> LLM:
        return LLM(self.send, row.id, "m@1", Sampling(max_tokens=50), round_)

    @property
    def steps(self) -> list[str]:
        return [request.step for request in self.asked]


def method(**options: Any) -> SelfEvolution:
    """SELF with these options, and under `recipe` other sections of its recipe."""
    changes = {"new_questions": True, "questions_per_round": 1, **options.pop("recipe", {})}
    return SelfEvolution(tiny_recipe(method={"name": "self", **options}, **changes))


async def through(
    self_: SelfEvolution, model: Model, round_: int, task: Row = TASK
) -> list[tuple[str, Outcome]]:
    """Take a task through the four stages, as long as it is kept."""
    outcomes: list[tuple[str, Outcome]] = []
    row = task
    for name in STAGES:
        outcome = await self_.stages()[name].row(row, model.llm(row, round_))
        outcomes.append((name, outcome))
        if not isinstance(outcome, Kept):
            break
        [row] = outcome.rows
    return outcomes


def last(outcomes: list[tuple[str, Outcome]]) -> Row:
    """The row that verify kept."""
    name, outcome = outcomes[-1]
    assert name == "verify" and isinstance(outcome, Kept), outcomes[-1]
    return outcome.rows[0]


def why(outcomes: list[tuple[str, Outcome]]) -> tuple[str, str]:
    """The stage that dropped the row, and its reason."""
    name, outcome = outcomes[-1]
    assert isinstance(outcome, Dropped)
    return name, outcome.reason


async def made(round_: int, first: str = NO, **options: Any) -> Row:
    """A verified row of a round whose first answer was judged `first`."""
    said = {
        "hinted_feedback": first,
        "annotate_refine": f"Two steps.\nAnswer: {TRUTH}",
        "feedback": [first, YES],
        "refine": "Answer: 13",
    }
    solved = "Answer: 12" if first == NO else f"Answer: {TRUTH}"
    return last(await through(method(**options), Model(solve=solved, **said), round_))
