"""What a model knows without a document before it: four-choice questions by log-likelihood, and the perplexity of held-out general text."""

import math
from typing import Any

from pipeline import prompts
from pipeline.config import Recipe
from pipeline.engines.pool import EngineHandle
from pipeline.errors import DataError
from pipeline.methods import Stage
from pipeline.rows import Kept, Outcome, Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.runner.llm import LLM, together
from pipeline.runner.stage import input_of, run_stage
from stages.answers import equal

QUESTION, PASSAGE = "closed_book/question", "closed_book/passage"
STAGE = "perplexity"
WORDS = 150  # of a general text that are scored


async def choose(row: Row, llm: LLM) -> Outcome:
    """Judge a question by which option the model finds most likely, as the mean log-probability of its tokens after the question.

    An option's length is divided out, for a long answer is not less likely to be right. Of equally likely options the first is taken.
    """
    task = row.payload
    if not task.get("options") or task.get("answer") is None:
        raise DataError(
            f"question {row.id}: evaluate.how loglikelihood needs options and the right one (columns.options, columns.answer)"
        )
    asked = prompts.render(QUESTION, question=task["question"])[-1]["content"]
    found = await together(llm.score(asked, f" {option}", step=QUESTION) for option in task["options"])
    means = [sum(values) / len(values) for values in found]
    best = means.index(max(means))
    letter = chr(ord("A") + best)
    judged = {
        "text": task["options"][best],
        "correct": best == _right(task),
        "extracted": letter,
        "key": letter,
        "tokens": sum(map(len, found)),
        "mean_logprobs": [round(mean, 5) for mean in means],
    }
    return Kept([row.child("evaluate", llm.round, greedy=judged, samples=[])])


def _right(task: dict[str, Any]) -> int | None:
    """Return which option is the right one: the one that is the answer's text, else the one that the answer labels."""
    options, answer = task["options"], task["answer"]
    if answer in options:
        return options.index(answer)
    return next((i for i, option in enumerate(options) if equal(option, answer, "choice", options)), None)


async def passage(row: Row, llm: LLM) -> Outcome:
    """Score the beginning of one general text: the sum of its tokens' log-probabilities."""
    text = " ".join(row.payload["question"].split()[:WORDS])
    values = await llm.score("", prompts.render(PASSAGE, text=text)[-1]["content"], step=PASSAGE)
    return Kept([row.child(STAGE, llm.round, logprob=sum(values), tokens=len(values))])


def passages(recipe: Recipe) -> Stage:
    """Return the stage that scores general texts."""
    return Stage(row=passage, prompts=(PASSAGE,), config={"words": WORDS})


def is_measured(run: RunDir, round_: RoundKey) -> bool:
    """Tell whether a round's perplexity is known, or there is no general text to know it of."""
    return (
        run.manifest(run.tasks("replay_held_out")) is None
        or run.manifest(run.stage(round_, STAGE)) is not None
    )


async def perplexity(run: RunDir, round_: RoundKey, recipe: Recipe, engine: EngineHandle) -> dict[str, Any]:
    """Return what is to be said of a round's perplexity on the held-out general texts; {} in a run without them."""
    folder = run.tasks("replay_held_out")
    if run.manifest(folder) is None:
        return {}
    await run_stage(run, round_, STAGE, passages, input_of(run, folder), recipe, engine)
    rows = [row.payload for row in run.rows(run.stage(round_, STAGE))]
    tokens = sum(row["tokens"] for row in rows)
    mean = sum(row["logprob"] for row in rows) / tokens if tokens else math.nan
    return {"replay_perplexity": {"perplexity": math.exp(-mean), "texts": len(rows), "tokens": tokens}}
