"""Agent-R on the counter game, with a scripted model that plays and judges."""

import asyncio
from typing import Any

from pipeline.engines.base import Completion, Request
from pipeline.rows import Kept, Row
from stages.methods.agent_r.method import AgentR
from stages.tasks import read_tasks, split_held_out
from tests.conftest import tiny_recipe
from tests.stages.methods.agent_r.search.player import answer, completion, llm

METHOD = {
    "name": "agent_r",
    "depth": 6,
    "simulations": 6,
    "alpha": [0.5, 1.0],
    "good_per_task": 3,
    "pairs_per_task": 12,
}
TASKS = {
    "source": "environment",
    "dataset": "tests.stages.methods.agent_r.search.counter:Counter",
    "options": {"train": 8, "test": 5},
}


def method(tasks: dict[str, Any] = TASKS, train: dict[str, Any] | None = None, **changes: Any) -> AgentR:
    return AgentR(tiny_recipe(tasks=tasks, method={**METHOD, **changes}, train=train or {}))


def model(says: str = "hash", sent: list[Request] | None = None) -> Any:
    """A model that plays by the request's hash and judges: every step as `says`, or by the hash."""

    async def send(request: Request) -> list[Completion]:
        if sent is not None:
            sent.append(request)
        await asyncio.sleep(0)  # pairs are judged side by side
        if request.step != "agent_r/judge":
            return [
                completion(answer(request, i, ("add 1", "add 2", "double", "fly"))) for i in range(request.n)
            ]
        label = ("Good", "Bad", "Uncertain")[int(request.key("m")[:2], 16) % 3] if says == "hash" else says
        return [completion(f"It does something.\nJudgement: {label}")]

    return send


def task_rows(m: AgentR) -> tuple[list[Row], list[Row]]:
    train, held = split_held_out(read_tasks(m.recipe.tasks, 0).rows, m.recipe.held_out, 0)
    return list(train), list(held)


def through(m: AgentR, row: Row, send: Any, round: int = 1) -> dict[str, Any]:
    """Bring one task through the four stages; return the rows that each kept, and those that it dropped."""

    async def run() -> dict[str, Any]:
        rows, found = [row], {}
        for name, stage in m.stages().items():
            kept, dropped = [], []
            for one in rows:
                outcome = await stage.row(one, llm(send, one.id, round))
                kept += outcome.rows if isinstance(outcome, Kept) else []
                dropped += [] if isinstance(outcome, Kept) else [(one, outcome)]
            found[name], found[f"{name} dropped"], rows = kept, dropped, kept
        return found

    return asyncio.run(run())
