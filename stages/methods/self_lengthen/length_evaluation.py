"""Evaluation of how long a model writes, and how well it meets a requested length.

An instruction whose answer column holds a demand ("about 150", "range 100-200", "above 100", "below 200") is
scored by LonGen's length score (arXiv 2410.23933); any other by whether its text passes the rules for long
texts (1) or not (0). Of several texts for an instruction (evaluate.samples), the mean counts: intervals are
over instructions.
"""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from pipeline.config import Recipe
from pipeline.engines.base import Completion
from pipeline.methods import Stage
from pipeline.payload import Key, declare
from pipeline.rows import Kept, Outcome, Row
from pipeline.runner.llm import LLM
from stages.methods.self_lengthen.lengths import Demand, words
from stages.methods.self_lengthen.long_texts import problem, repetition_rate, spoken
from stages.steps.samples import StepSampling

VERSION = 2
CONTROL = "self_lengthen/longer"
LENGTH_SCORE = "length score: "  # followed by the kind of demand

FURTHER = "further_"  # followed by "greedy" or "control"
declare(
    {
        "control": Key("evaluate", "reports", "the measured text of the control prompt"),
        **{
            f"{FURTHER}{kind}": Key("evaluate", "reports", "the measured texts after the first")
            for kind in ("greedy", "control")
        },
    }
)

MEASURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "words": lambda t: t["words"],
    "passes rules": lambda t: t["problem"] is None,
    "cut off": lambda t: t["problem"] == "truncated",
    "repetitive": lambda t: t["repetition"] > 0,
    "repetition rate": lambda t: t["repetition"],
}


def stage(recipe: Recipe, write: str, name: str | None, role: str) -> Stage:
    """Return the stage that evaluates a set with the prompt `write`, sampled as in generate, in a `role`.

    On the held-out set the untrained model is also asked in plain words for a longer text: the control to
    beat.
    """
    control = CONTROL if name is None else None
    asked = (write, control) if control else (write,)
    return Stage(partial(_evaluate, recipe, write, control, role), prompts=asked, version=VERSION)


async def _evaluate(
    recipe: Recipe, write: str, control: str | None, role: str, row: Row, llm: LLM
) -> Outcome:
    demand = Demand.parse(row.payload["answer"]) if row.payload.get("answer") else None
    made = {"samples": [], **await _texts(recipe, llm, "greedy", write, role, row, demand)}
    if control and llm.round == "base":
        made |= await _texts(recipe, llm, "control", control, role, row, None)
    return Kept([row.child("evaluate", llm.round, **made)])


async def _texts(
    recipe: Recipe, llm: LLM, kind: str, template: str, role: str, row: Row, demand: Demand | None
) -> dict[str, Any]:
    """Return the payload of written and measured texts: the first under `kind`, with the mean score of all as
    its `correct`.
    """
    sampling = StepSampling(max_tokens=recipe.evaluate.max_tokens).applied_to(llm.sampling)
    instruction, n = row.payload["question"], 1 + recipe.evaluate.samples
    written = await llm.ask(template, n=n, sampling=sampling, role=role, instruction=instruction)
    first, *further = (_measured(spoken(one), instruction, demand) for one in written)
    if not further:
        return {kind: first}
    score = fmean(text["correct"] for text in (first, *further))
    return {kind: {**first, "correct": score}, FURTHER + kind: further}


def _measured(written: Completion, instruction: str, demand: Demand | None) -> dict[str, Any]:
    """Return a text and its measurements; `correct` is its score."""
    length, why = words(written.text), problem(written.text, instruction, written.finish_reason)
    return {
        "text": written.text,
        "correct": float(why is None) if demand is None else demand.score(length),
        "extracted": f"{length} words",
        "tokens": written.completion_tokens,
        "words": length,
        "demand": demand and demand.kind,
        "problem": why and why[0],
        "repetition": round(repetition_rate(written.text), 4),
    }


def texts_of(payload: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return an evaluated row's measured texts of a `kind`, "greedy" or "control"; none if it was not
    asked.
    """
    return [payload[kind], *payload.get(FURTHER + kind, ())] if kind in payload else []


def mean_of(measure: str, texts: Sequence[dict[str, Any]]) -> float:
    """Return the mean of a measure over an instruction's texts."""
    return fmean(MEASURES[measure](text) for text in texts)


def measures(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Return a set's measurements besides its score, per instruction: of its texts, by kind of demand, and of
    its control texts.
    """
    texts, controls = (
        [found for row in rows if (found := texts_of(row.payload, kind))] for kind in ("greedy", "control")
    )
    scored = [row.payload["greedy"] for row in rows]
    kinds = sorted({t["demand"] for t in scored if t["demand"]})
    values = {name: [mean_of(name, t) for t in texts] for name in MEASURES}
    values |= {
        f"{LENGTH_SCORE}{kind}": [t["correct"] for t in scored if t["demand"] == kind] for kind in kinds
    }
    if controls:
        values |= {f"{name}, asked for longer": [mean_of(name, t) for t in controls] for name in MEASURES}
    return values
