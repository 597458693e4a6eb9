"""Closed-book questions, by log-likelihood and by generation.

What is right, what is wrong, and what cannot be asked.
"""

import asyncio
import math
from typing import Any

import pytest

from pipeline.engines.base import SCORED, Completion, Request, Sampling
from pipeline.errors import DataError, EngineError
from pipeline.rows import Row
from pipeline.runner.llm import LLM
from stages.rounds.closed_book import choose, passage, solution
from stages.steps.verifiers import ground_truth

OPTIONS = ["Rome", "a very long name of a city", "Oslo", "Riga"]


def question(**changes: Any) -> Row:
    return Row(
        "q",
        {
            "task_id": "q",
            "question": "What is the capital?",
            "options": OPTIONS,
            "answer": "B",
            "answer_type": "choice",
            **changes,
        },
    )


def ask(row: Row, values: dict[str, list[float] | None]) -> tuple[dict[str, Any], list[Request]]:
    asked: list[Request] = []

    async def send(request: Request) -> list[Completion]:
        asked.append(request)
        return [Completion("", "length", 9, 1, None, values[request.prefill])]

    return asyncio.run(choose(row, LLM(send, row.id, "m@1", Sampling()))).rows[0].payload["greedy"], asked


def test_the_option_that_is_likeliest_per_token_is_chosen() -> None:
    values = {" Rome": [-2.0], " a very long name of a city": [-1.0] * 7, " Oslo": [-1.5], " Riga": [-9.0]}
    judged, asked = ask(question(), values)
    assert (judged["extracted"], judged["correct"], judged["text"]) == ("B", True, OPTIONS[1]), (
        "its sum is the lowest but one"
    )
    assert judged["mean_logprobs"] == [-2, -1, -1.5, -9] and judged["tokens"] == 10
    assert [(r.prompt, r.messages, r.sampling.max_tokens) for r in asked] == [
        ("Question: What is the capital?\nAnswer:", None, 1)
    ] * 4
    assert all(r.sampling.extra == SCORED and r.prefill.startswith(" ") for r in asked)
    assert not ask(question(answer="A"), values)[0]["correct"]


def test_an_option_that_looks_like_a_label_is_itself() -> None:
    groups, values = ["O", "A", "B", "AB"], {" O": [-1.0], " A": [-2.0], " B": [-3.0], " AB": [-4.0]}
    assert ask(question(options=groups, answer="O"), values)[0]["correct"]
    assert not ask(question(options=groups, answer="A"), values)[0]["correct"], (
        "the text of the second, not the label of the first"
    )
    assert ask(
        question(options=[f"A. {OPTIONS[0]}", f"B. {OPTIONS[1]}"], answer="B"),
        {f" A. {OPTIONS[0]}": [-2.0], f" B. {OPTIONS[1]}": [-1.0]},
    )[0]["correct"]


def test_a_known_solution_is_scored_as_the_models_own_answer() -> None:
    asked = [{"role": "user", "content": "What is the capital?"}]

    async def send(request: Request) -> list[Completion]:
        assert (request.messages, request.prompt, request.prefill) == (asked, None, "It is Rome.")
        assert request.sampling.extra == SCORED
        return [Completion("", "length", 9, 1, None, [-0.5, -1.0, -1.5])]

    llm, row = LLM(send, "q", "m@1", Sampling()), question(answer=None, solution="It is Rome.")
    judged = asyncio.run(solution(lambda row: asked, row, llm)).rows[0].payload["greedy"]
    assert judged["correct"] == pytest.approx(math.exp(-1)) and judged["nats"] == 1 and judged["tokens"] == 3
    with pytest.raises(DataError, match=r"columns\.solution"):
        asyncio.run(solution(lambda row: asked, question(answer=None), llm))


def test_what_cannot_be_asked_is_told() -> None:
    with pytest.raises(DataError, match=r"columns\.options"):
        ask(question(options=None), {})
    with pytest.raises(EngineError, match="no prompt log-probabilities"):
        ask(question(), {f" {o}": None for o in OPTIONS})


def test_a_passage_is_scored_without_a_prompt_and_up_to_its_150th_word() -> None:
    async def send(request: Request) -> list[Completion]:
        assert request.prompt == "" and len(request.prefill.split()) == 150
        return [Completion("", "length", 9, 1, None, [-0.5] * 149)]

    row = Row("g", {"question": " ".join(f"w{i}" for i in range(400))})
    assert asyncio.run(passage(row, LLM(send, "g", "m@1", Sampling()))).rows[0].payload["tokens"] == 149


@pytest.mark.parametrize(
    ("text", "correct"),
    [
        ("It lies far away.\n\nAnswer: B", True),
        ("It lies far away. Answer: C", False),
        ("I do not know", False),  # fault 9: counts as wrong, and stays in the denominator
        ("Answer: AB", False),  # fault 10: was read as its last letter
        ("Answer: A or B", False),
        ("Answer: E", False),
    ],
)
def test_a_generated_answer_that_cannot_be_read_is_wrong(text: str, correct: bool) -> None:
    assert ground_truth({**question().payload, "text": text, "finish_reason": "stop"}).correct is correct
