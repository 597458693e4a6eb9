"""Evaluation on the held-out set and on evaluate.sets: per question a greedy answer, and samples for pass@k
and maj@k.
"""

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pipeline.config import Recipe
from pipeline.engines.base import Completion, Sampling
from pipeline.engines.pool import EngineHandle
from pipeline.errors import DataError
from pipeline.ids import digest
from pipeline.methods import Method, load_method, question_templates
from pipeline.payload import Payload
from pipeline.protocols import Evaluates, RefinesAnswers, ResumesAttempts
from pipeline.round import Input, Round, input_of
from pipeline.rows import Kept, Outcome, Row
from pipeline.rundir import RunDir
from pipeline.runner.llm import LLM
from pipeline.runner.stage import run_stage
from pipeline.stage import RESUMED, Stage
from pipeline.store import files
from stages.answers import normalized
from stages.rounds import closed_book
from stages.rounds.measures import STAGE, measures, reference, stage_name
from stages.steps import verifiers
from stages.steps.samples import answer_fields

VERSION = 2


def stage(recipe: Recipe, name: str | None = None) -> Stage:
    """Return the evaluation stage of the held-out set, or of the set `name`: one question in, one row of
    judged answers out.
    """
    method, verifier = load_method(recipe), verifier_of(recipe, name)
    if recipe.evaluate.how == "loglikelihood":
        config: dict[str, Any] = {"how": recipe.evaluate.how}
        return Stage(row=closed_book.choose, prompts=(closed_book.QUESTION,), config=config)
    left_out = {"engine", "bootstrap", "base_model", "k", "sets", "how"}
    config = recipe.evaluate.model_dump(mode="json", exclude=left_out) | {"verifier": verifier}
    if own := _own(method, name):
        return replace(own, config=config | {"method": own.config})
    refinement = method.refinement() if isinstance(method, RefinesAnswers) else None
    if refinement is not None:
        config["refinement"] = refinement
    answer = functools.partial(_answer, method, recipe, verifier)
    return Stage(row=answer, prompts=question_templates(method), config=config, version=VERSION)


def resumed_stage(recipe: Recipe) -> Stage:
    """Return the stage in which a model continues failed attempts (ResumesAttempts)."""
    method = load_method(recipe)
    assert isinstance(method, ResumesAttempts)
    own = method.resumption()
    return replace(own, config={"max_tokens": recipe.evaluate.max_tokens, "method": own.config})


def verifier_of(recipe: Recipe, name: str | None) -> str:
    """Return the verifier of a set's answers: reasoning_gym's own scorer for questions from there."""
    if name is None:
        return recipe.verifier
    if recipe.evaluate.sets[name].source == "reasoning_gym":
        return "task_scorer"
    return "ground_truth" if recipe.verifier == "task_scorer" else recipe.verifier


def check_answers(run: RunDir, recipe: Recipe) -> None:
    """Raise DataError for evaluation questions whose answers cannot be judged, before anything is generated
    for them.
    """
    if recipe.evaluate.how != "generate":
        return
    for name in (None, *recipe.evaluate.sets):
        if verifier_of(recipe, name) not in ("ground_truth", "majority_vote") or _own(
            load_method(recipe), name
        ):
            continue
        rows = list(run.rows(run.tasks("held_out" if name is None else f"sets/{name}")))
        if without := sum(row.payload.get("answer") is None for row in rows):
            what = "held_out" if name is None else f"evaluate.sets.{name}"
            raise DataError(
                f"{what}: {without} of {len(rows)} questions have no answer, so no model can be evaluated on "
                "them. If the tasks "
                "have none (verifier: majority_vote), add questions that do: "
                "held_out: {source: {source: jsonl, path: checked.jsonl}}. Then use a new run directory."
            )


async def evaluate(round_: Round, engine: EngineHandle) -> dict[str, Any]:
    """Evaluate a round's model (or "base"), write evaluation/round-NNN.json and return its content.

    `tokens` and `seconds` cover all sets; the measures of evaluate.sets are under `sets`.
    """
    run, recipe = round_.run, round_.recipe
    check_answers(run, recipe)
    manifests = []
    for name in (None, *recipe.evaluate.sets):
        source = input_of(run, run.tasks("held_out" if name is None else f"sets/{name}"))
        factory = functools.partial(stage, name=name)
        manifests.append(await run_stage(round_, stage_name(name), factory, source, engine))
    if (failed := _failed_before(round_)) is not None:
        manifests.append(await run_stage(round_, RESUMED, resumed_stage, failed, engine))
    facts = {
        "round": round_.number,
        "model": engine.model_name,
        **measures(round_),
        "tokens": sum(m.tokens.completion for m in manifests),
        "seconds": round(sum(m.seconds for m in manifests), 2),
    }
    if recipe.evaluate.sets:
        facts["sets"] = {name: measures(round_, name) for name in recipe.evaluate.sets}
    facts |= await closed_book.perplexity(round_, engine)
    files.write_json(run.evaluation(round_.number), facts)
    return facts


def is_done(round_: Round) -> bool:
    """Tell whether every question of a round's evaluation has been answered."""
    names = [stage_name(name) for name in (None, *round_.recipe.evaluate.sets)]
    names += [RESUMED] if _failed_before(round_) is not None else []
    return all(round_.manifest(name) is not None for name in names) and closed_book.is_measured(round_)


def _own(method: Method, name: str | None) -> Stage | None:
    return method.evaluation(name) if isinstance(method, Evaluates) else None


def _failed_before(round_: Round) -> Input | None:
    """Return the held-out rows that the run's first model failed on, where the method and the round continue
    them.
    """
    if not isinstance(round_.method, ResumesAttempts):
        return None
    first = round_.at(reference(round_)[1])
    if round_.number in ("base", first.number) or first.manifest(STAGE) is None:
        return None
    source, rows = first.input(STAGE), functools.partial(_failed, first)
    count = sum(1 for _ in rows())
    return Input(rows, count, digest([source.digest, "failed"]), source.folder) if count else None


def _failed(round_: Round) -> Iterator[Row]:
    return (row for row in round_.rows(STAGE) if not row.payload["greedy"]["correct"])


async def _answer(method: Method, recipe: Recipe, verifier: str, row: Row, llm: LLM) -> Outcome:
    settings, question = recipe.evaluate, method.question(row)
    limit = settings.max_tokens or recipe.sampling.max_tokens
    ends = recipe.sampling.extra.get("stop_token_ids")  # an answer ends where it does in generation
    same: Any = {"stop": recipe.sampling.stop, **({"extra": {"stop_token_ids": ends}} if ends else {})}
    surest = Sampling(temperature=0, max_tokens=limit, **same)
    varied = Sampling(temperature=settings.temperature, max_tokens=limit, **same)
    greedy = await llm.chat(question, step="greedy", sampling=surest)
    sampled: list[Completion] = []
    if settings.samples:
        sampled = await llm.chat(question, step="sampled", n=settings.samples, sampling=varied)
    judge = functools.partial(_judge, verifiers.scorer(verifier), {**row.payload, "model": llm.model})
    refined: dict[str, Any] = {}
    if isinstance(method, RefinesAnswers) and method.refinement() is not None:
        refined["refined"] = judge(await method.improve(row, greedy[0], llm, surest))
        # One after the other, so that equal answers get the same sample numbers in every run.
        refined["refined_samples"] = [judge(await method.improve(row, a, llm, varied)) for a in sampled]
    answers = {"greedy": judge(greedy[0]), "samples": [judge(c) for c in sampled], **refined}
    return Kept([row.child(STAGE, llm.round, **answers)])


def _judge(score: verifiers.Scorer, task: dict[str, Any], completion: Completion) -> dict[str, Any]:
    """Score an answer. A verifier sees the task's keys and a sampled answer's, as in the stage verify."""
    verdict = score(Payload({**task, **answer_fields(completion), "text": completion.text}))
    return {
        "text": completion.text,
        "correct": verdict.correct,
        "extracted": verdict.extracted,
        "key": None if verdict.extracted is None else _vote(verdict.extracted, task),
        "tokens": completion.completion_tokens,
    }


def _vote(extracted: str, task: dict[str, Any]) -> str | None:
    """Return the key that equal answers share.

    A task's own scorer may read answers that fit no answer_type: those are compared as texts, or all would be
    one vote.
    """
    mapping = extracted.count("=") > 1  # "A=1, B=2", which read as a number would be the last one
    typed = None if mapping else normalized(extracted, task["answer_type"], task.get("options"))
    return typed or normalized(extracted, "text") or None
