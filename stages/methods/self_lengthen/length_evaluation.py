"""Evaluation of how long a model writes, and how well it meets a requested length.

An instruction whose answer column holds a demand ("about 150", "range 100-200", "above 100", "below 200") is
scored by LonGen's length score (arXiv 2410.23933); any other by whether its text passes the rules for long
texts (1) or not (0).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pipeline.config import Recipe
from pipeline.methods import Stage
from pipeline.rows import Kept, Outcome, Row
from pipeline.runner.llm import LLM
from stages.methods.self_lengthen.lengths import Demand, words
from stages.methods.self_lengthen.long_texts import problem, repetition_rate, spoken
from stages.steps.samples import StepSampling

VERSION = 2
CONTROL = "self_lengthen/longer"
LENGTH_SCORE = "length score: "  # followed by the kind of demand

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
    made = {"greedy": await _text(recipe, llm, write, role, row, demand), "samples": []}
    if control and llm.round == "base":
        made["control"] = await _text(recipe, llm, control, role, row, None)
    return Kept([row.child("evaluate", llm.round, **made)])


async def _text(
    recipe: Recipe, llm: LLM, template: str, role: str, row: Row, demand: Demand | None
) -> dict[str, Any]:
    """Return a written text and its measurements; `correct` is its score."""
    sampling = StepSampling(max_tokens=recipe.evaluate.max_tokens).applied_to(llm.sampling)
    instruction = row.payload["question"]
    [written] = await llm.ask(template, sampling=sampling, role=role, instruction=instruction)
    written = spoken(written)
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


def measures(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Return a set's measurements besides its score: per text, per kind of demand, and per control text."""
    texts = [row.payload["greedy"] for row in rows]
    controls = [row.payload["control"] for row in rows if "control" in row.payload]
    kinds = sorted({t["demand"] for t in texts if t["demand"]})
    values = {name: [float(of(t)) for t in texts] for name, of in MEASURES.items()}
    values |= {
        f"{LENGTH_SCORE}{kind}": [t["correct"] for t in texts if t["demand"] == kind] for kind in kinds
    }
    if controls:
        values |= {
            f"{name}, asked for longer": [float(of(t)) for t in controls] for name, of in MEASURES.items()
        }
    return values
