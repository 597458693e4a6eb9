"""Held-out answers judged by a model, where nobody knows the right ones."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.config import Recipe, VerifierSection
from pipeline.errors import ConfigError
from pipeline.protocols import Work
from pipeline.rows import Kept, Outcome, Row
from pipeline.runner.llm import LLM
from pipeline.stage import Stage
from stages.judges.base import Verifier, shown
from stages.judges.stage import checked

VERSION = 1
_SINGLE, _SEVERAL = ("greedy", "refined"), ("samples", "refined_samples")


def stage(recipe: Recipe, config: VerifierSection | str) -> Stage:
    """Return the stage that judges the answers in rows of evaluation. Raises ConfigError for a verifier that
    only ranks a question's answers.
    """
    assert isinstance(config, VerifierSection)
    verifier = checked(recipe, config)
    if config.alone:
        raise ConfigError(
            f"evaluate.verifier: {config.kind} compares answers to one question with each other, and "
            "evaluation has a single one, whose questions have no known answers. Set evaluate.verifier: "
            "{kind: judge}, or add held-out questions with answers."
        )
    answers = 1 + recipe.evaluate.samples
    asks = tuple(a._replace(least=a.least * answers, most=a.most * answers) for a in verifier.asks())
    return Stage(
        row=partial(_judge, verifier),
        prompts=verifier.prompts,
        config={"verifier": config.identity()},
        version=VERSION,
        seats=verifier.seats,
        work=Work(asks, 1, 1),
    )


async def _judge(verifier: Verifier, row: Row, llm: LLM) -> Outcome:
    """Judge a row's answers one after the other: equal ones get the same sample numbers in every run."""
    found: dict[str, Any] = {}
    for key in _SINGLE:
        if key in row.payload:
            found[key] = await _judged(verifier, row, row.payload[key], llm)
    for key in _SEVERAL:
        if key in row.payload:
            found[key] = [await _judged(verifier, row, answer, llm) for answer in row.payload[key]]
    return Kept([row.child("evaluate", llm.round, **found)])


async def _judged(verifier: Verifier, row: Row, answer: Mapping[str, Any], llm: LLM) -> dict[str, Any]:
    """Return an answer with its verdict; `extracted` is the score that was read."""
    payload = {**row.payload, "text": answer["text"], "completion_tokens": answer["tokens"]}
    verdict, said, _ = await verifier.judge(Row(row.id, payload), llm)
    return {
        **answer,
        "correct": verdict.correct,
        "extracted": None if verdict.problem else shown(verdict.score),
        "problem": verdict.problem,
        "score": verdict.score,
        "said": dict(said),
    }
