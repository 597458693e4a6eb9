"""What a model makes of texts that others wrote: multiple-choice questions by log-likelihood, the perplexity
of known solutions, and that of held-out general text.
"""

import math
from collections.abc import Callable
from typing import Any

from pipeline.config import Recipe
from pipeline.engines.base import Message
from pipeline.engines.pool import EngineHandle, LazyEngine
from pipeline.errors import DataError
from pipeline.round import Round, input_of
from pipeline.rows import Kept, Outcome, Row
from pipeline.runner.llm import LLM, together
from pipeline.runner.stage import run_stage
from pipeline.stage import Stage
from stages.answers import equal
from stages.steps.samples import demonstration

SOLUTION = "solution"
QUESTION, PASSAGE = "closed_book/question", "closed_book/passage"
STAGE = "perplexity"
WORDS = 150  # of each general text that are scored


async def choose(row: Row, llm: LLM) -> Outcome:
    """Choose the option with the highest mean log-probability per token after the question.

    The mean, as a longer answer is no less likely to be right. Of equally likely options the first one is
    chosen.
    """
    task = row.payload
    if not task.get("options") or task.get("answer") is None:
        raise DataError(
            f"question {row.id}: evaluate.how loglikelihood needs options and the right one "
            "(columns.options, columns.answer)"
        )
    asked = llm.prompts.render(QUESTION, question=task["question"])[-1]["content"]
    scores = await together(llm.score(asked, f" {option}", step=QUESTION) for option in task["options"])
    means = [sum(values) / len(values) for values in scores]
    best = means.index(max(means))
    letter = chr(ord("A") + best)
    judged = {
        "text": task["options"][best],
        "correct": best == _right(task),
        "extracted": letter,
        "key": letter,
        "tokens": sum(map(len, scores)),
        "mean_logprobs": [round(mean, 5) for mean in means],
    }
    return Kept([row.child("evaluate", llm.round, greedy=judged, samples=[])])


def right_option(task: dict[str, Any]) -> str | None:
    """Return the text of the right option; None without options, or if none is right."""
    at = _right(task) if task.get("options") and task.get("answer") is not None else None
    return None if at is None else str(task["options"][at])


def _right(task: dict[str, Any]) -> int | None:
    """Return the index of the right option: the one equal to the answer, else the one the answer labels."""
    options, answer = task["options"], task["answer"]
    if answer in options:
        return options.index(answer)
    return next((i for i, option in enumerate(options) if equal(option, answer, "choice", options)), None)


async def solution(question: Callable[[Row], list[Message]], row: Row, llm: LLM) -> Outcome:
    """Score the known solution as the model's own answer.

    `correct` is its probability per token, the geometric mean: between 0 and 1, as accuracies are.
    """
    text = demonstration(row.payload)
    if not text:
        raise DataError(
            f"question {row.id}: evaluate.how perplexity needs a solution or an answer (columns.solution, "
            "columns.answer)"
        )
    values = await llm.score(question(row), text, step=SOLUTION)
    nats = -sum(values) / len(values)
    scored = {"text": text, "correct": math.exp(-nats), "extracted": "", "key": "", "nats": round(nats, 5)}
    return Kept([row.child("evaluate", llm.round, greedy=scored | {"tokens": len(values)}, samples=[])])


async def passage(row: Row, llm: LLM) -> Outcome:
    """Score the beginning of one general text: the sum of its tokens' log-probabilities."""
    text = " ".join(row.payload["question"].split()[:WORDS])
    values = await llm.score("", llm.prompts.render(PASSAGE, text=text)[-1]["content"], step=PASSAGE)
    return Kept([row.child(STAGE, llm.round, logprob=sum(values), tokens=len(values))])


def passages(recipe: Recipe) -> Stage:
    """Return the stage that scores general texts."""
    return Stage(row=passage, prompts=(PASSAGE,), config={"words": WORDS})


async def perplexity(round_: Round, engine: EngineHandle | LazyEngine) -> dict[str, Any]:
    """Measure a round's perplexity on the held-out general texts; {} in a run without them."""
    folder = round_.run.tasks("replay_held_out")
    if round_.run.manifest(folder) is None:
        return {}
    await run_stage(round_, STAGE, passages, input_of(round_.run, folder), engine)
    rows = [row.payload for row in round_.rows(STAGE)]
    tokens = sum(row["tokens"] for row in rows)
    mean = sum(row["logprob"] for row in rows) / tokens if tokens else math.nan
    return {"replay_perplexity": {"perplexity": math.exp(-mean), "texts": len(rows), "tokens": tokens}}
