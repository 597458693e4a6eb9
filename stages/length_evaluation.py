"""How long a model writes, and how well it keeps to a length. Source: Self-Lengthen 1.12 (LonGen).

An instruction whose answer column holds a demand ("about 150", "range 100-200", "above 100", "below 200") is scored by the length
score; one without by whether its text passes the rules for long texts (1) or not (0).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pipeline import prompts
from pipeline.config import Recipe
from pipeline.methods import Stage
from pipeline.rows import Kept, Outcome, Row
from pipeline.runner.llm import LLM
from stages.lengths import Demand, words
from stages.long_texts import problem, repetition_rate

VERSION = 1
CONTROL = "self_lengthen/longer"


def stage(recipe: Recipe, write: str, name: str | None, role: str) -> Stage:
    """Return the stage that evaluates a set with the prompt `write`, sampled as in generating, of the model in its `role`.

    On the held-out set the untrained model is also asked in plain words for a longer text: the control that a method has to beat.
    """
    control = CONTROL if name is None else None
    asked = (write, control) if control else (write,)
    config = {"max_tokens": recipe.evaluate.max_tokens}
    return Stage(partial(_evaluate, recipe, write, control, role), {}, asked, config, VERSION)


async def _evaluate(recipe: Recipe, write: str, control: str | None, role: str, row: Row, llm: LLM) -> Outcome:
    demand = Demand.parse(row.payload["answer"]) if row.payload.get("answer") else None
    made = {"greedy": await _text(recipe, llm, write, role, row, demand), "samples": []}
    if control and llm.round == "base":
        made["control"] = await _text(recipe, llm, control, role, row, None)
    return Kept([row.child("evaluate", llm.round, **made)])


async def _text(recipe: Recipe, llm: LLM, template: str, role: str, row: Row, demand: Demand | None) -> dict[str, Any]:
    """Return a written text and what is measured of it; `correct` is its score."""
    sampling = type(llm.sampling)(**{**llm.sampling.model_dump(), "max_tokens": recipe.evaluate.max_tokens or llm.sampling.max_tokens})
    instruction = row.payload["question"]
    written = (await llm.chat(prompts.render(template, instruction=instruction), step=template, sampling=sampling, role=role))[0]
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


def measures(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what a set's evaluated rows say beside their score."""
    texts = [row.payload["greedy"] for row in rows]
    controls = [row.payload["control"] for row in rows if "control" in row.payload]
    kinds = sorted({t["demand"] for t in texts if t["demand"]})
    by_kind = {kind: round(float(np.mean([t["correct"] for t in texts if t["demand"] == kind])), 4) for kind in kinds}
    return {
        **summary(texts),
        **({"length_score": by_kind} if by_kind else {}),
        **({"control": summary(controls)} if controls else {}),
    }


def summary(texts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the word counts of texts (quartiles, tenths, mean), the share that passes the rules, and how repetitive they are."""
    counts = [t["words"] for t in texts]
    return {
        "words": quantiles(counts),
        "pass_rules": share([t["problem"] is None for t in texts]),
        "cut_off": share([t["problem"] == "truncated" for t in texts]),
        "repetitive": share([t["repetition"] > 0 for t in texts]),
        "repetition_rate": round(float(np.mean([t["repetition"] for t in texts])), 4) if texts else None,
    }


def quantiles(counts: Sequence[int]) -> dict[str, float]:
    """Return the distribution of word counts in seven numbers; {} of none."""
    if not counts:
        return {}
    found = np.percentile(counts, [10, 25, 50, 75, 90])
    names = ("p10", "p25", "p50", "p75", "p90")
    return {**{name: round(float(v), 1) for name, v in zip(names, found, strict=True)}, "max": max(counts), "mean": round(float(np.mean(counts)), 1)}


def share(marks: Sequence[bool]) -> float | None:
    """Return which share of the marks is set; None of no marks."""
    return round(sum(marks) / len(marks), 4) if marks else None
