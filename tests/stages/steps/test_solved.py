"""Questions whose answers are all right are left out of publishing, and nothing else is."""

from typing import Any

import pytest

from pipeline.engines.base import Completion, Request, Sampling
from pipeline.methods import load_method
from pipeline.rows import Dropped, Kept, Row
from pipeline.runner.llm import LLM
from stages.steps.solved import ANSWERS, SOLVED, counted, left_out, marked
from tests.conftest import tiny_recipe


def rows_of(**kept: int) -> list[Row]:
    """Questions of four answers each, of which so many were kept."""
    return [
        row
        for q, n in kept.items()
        for row in counted([Row(f"{q}{i}", {"task_id": q, "text": "t"}) for i in range(n)], 4)
    ]


def published(rows: list[Row]) -> tuple[list[Row], list[Dropped]]:
    outcomes = list(left_out(lambda: rows))
    return [row for row, why in outcomes if why is None], [why for _, why in outcomes if why]


def test_a_question_is_solved_when_none_of_its_answers_was_dropped() -> None:
    rows = [row for row, _ in marked()(lambda: rows_of(a=4, b=3, c=1))]
    assert {row.payload["task_id"]: row.payload[SOLVED] for row in rows} == {
        "a": True,
        "b": False,
        "c": False,
    }
    kept, dropped = published(rows)
    assert {row.payload["task_id"] for row in kept} == {"b", "c"}
    assert [d.reason for d in dropped] == ["all_right"] * 4 and "all 4 answers" in dropped[0].detail


def test_rows_that_were_not_counted_stay() -> None:
    rows = [Row("h", {"task_id": "q", "text": "t"}), *counted([Row("x", {"task_id": "z", "text": "t"})], 0)]
    assert published([row for row, _ in marked()(lambda: rows)])[0] and not published(rows)[1]


async def through(method: Any, texts: list[str], row: Row) -> list[Row]:
    async def send(request: Request) -> list[Completion]:
        said = texts if request.n > 1 else ["First both numbers, then their sum."]
        return [Completion(text, "stop", 5, 5) for text in said[: request.n]]

    stages, rows = method.stages(), [row]
    for name in ("generate", "critique", "filter", "verify"):
        stage = stages[name]
        if stage.row:
            made = [await stage.row(r, LLM(send, r.id, "m@1", Sampling(), 1)) for r in rows]
            rows = [r for outcome in made if isinstance(outcome, Kept) for r in outcome.rows]
        for step in stage.steps.values():
            rows = [r for r, why in step(lambda rows=rows: rows) if why is None]
    return rows


@pytest.mark.parametrize(
    ("texts", "solved"),
    [
        (["3 + 4.\nAnswer: 7"] * 3, True),
        (["Answer: 7"] * 2 + ["Answer: 8"], False),
        (["Answer: 7"] * 2 + [" "], False),
    ],
)
@pytest.mark.parametrize("verifier", ["ground_truth", "majority_vote"])
async def test_direct(texts: list[str], solved: bool, verifier: str) -> None:
    method = load_method(
        tiny_recipe(method={"name": "direct", "samples": 3, "skip_solved": True}, verifier=verifier)
    )
    task = Row("q", {"task_id": "q", "question": "3 + 4?", "answer": "7", "answer_type": "number"})
    rows = await through(method, texts, task)
    assert {row.payload[SOLVED] for row in rows} == {solved} and {row.payload[ANSWERS] for row in rows} == {3}
    [step] = method.publish_steps(1, None).values()
    assert {why is not None for _, why in step(lambda: rows)} == {solved}


@pytest.mark.parametrize("name", ["direct", "regenesis", "self"])
def test_it_is_off_by_default_and_then_changes_no_fingerprint(name: str) -> None:
    more = {"new_questions": True, "questions_per_round": 1} if name == "self" else {}
    off, on = (
        load_method(tiny_recipe(method={"name": name, **option}, **more))
        for option in ({}, {"skip_solved": True})
    )
    assert "skip_solved" not in off.options.fingerprint() and on.options.fingerprint()["skip_solved"]
    for stage in ("generate", "verify"):
        assert "skip_solved" not in off.stages()[stage].config and on.stages()[stage].config["skip_solved"]
    assert "skip_solved" in on.publish_steps(1, None) and "skip_solved" not in off.publish_steps(1, None)
    assert not on.publish_steps(0, None), "demonstrations are all right"
