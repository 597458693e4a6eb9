"""Evaluation on the held-out set and on evaluate.sets: per question a greedy answer, and samples for pass@k
and maj@k.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from pipeline.config import Recipe, VerifierSection
from pipeline.engines.base import Completion, Sampling
from pipeline.engines.pool import EngineHandle, LazyEngine, LazySeats
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
from stages.judges import judged
from stages.judges.combined import functions_in
from stages.rounds import closed_book
from stages.rounds.measures import STAGE, answer_name, measures, reference, stage_name
from stages.steps import code_tests, verifiers
from stages.steps.samples import answer_fields, demonstration

VERSION = 3
NOTHING_JUDGED = (
    "verifier: accept_all judges nothing, and there are no answers to judge by. Set evaluate.verifier, or "
    "evaluate.how: perplexity if there are solutions, and use a new run directory."
)
TakeSeats = Callable[[Stage], LazySeats]


def stage(recipe: Recipe, name: str | None = None) -> Stage:
    """Return the evaluation stage of the held-out set, or of the set `name`: one question in, one row of
    judged answers out. Where a model judges them, what comes in are the rows of `answer_stage`.
    """
    method, verifier = load_method(recipe), verifier_of(recipe, name)
    if asks_model(recipe, method, name):
        return judged.stage(recipe, verifier)
    return _answering(recipe, method, name, verifier)


def answer_stage(recipe: Recipe, name: str | None = None) -> Stage:
    """Return the stage that answers a set's questions for a model to judge, by itself: the judge may need the
    engine. One question in, one row of answers out.
    """
    return _answering(recipe, load_method(recipe), name, None)


def _answering(recipe: Recipe, method: Method, name: str | None, verifier: Any) -> Stage:
    config: dict[str, Any] = {"how": recipe.evaluate.how}
    if recipe.evaluate.how == "loglikelihood":
        return Stage(row=closed_book.choose, prompts=(closed_book.QUESTION,), config=config)
    if recipe.evaluate.how == "perplexity":
        score = functools.partial(closed_book.solution, method.question)
        return Stage(row=score, prompts=question_templates(method), config=config)
    left_out = {"engine", "bootstrap", "base_model", "k", "sets", "how", "verifier"}
    by = verifier.identity() if isinstance(verifier, VerifierSection) else verifier
    config = recipe.evaluate.model_dump(mode="json", exclude=left_out) | {"verifier": by}
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


def verifier_of(recipe: Recipe, name: str | None) -> str | VerifierSection:
    """Return the verifier of a set's answers: reasoning_gym's own scorer for questions from there, tests for
    programs. Questions with known answers are judged by a model, or by nothing, only if `evaluate.verifier`
    says so.
    """
    questions = recipe.held_out.source or recipe.tasks if name is None else recipe.evaluate.sets[name]
    verifier = recipe.evaluate.verifier or recipe.verifier
    judges = isinstance(verifier, str) and verifier != "accept_all"
    by_truth = recipe.evaluate.verifier is None and not judges
    if name is None and not by_truth:
        return verifier
    if questions.source == "reasoning_gym":
        return "task_scorer"
    if questions.answer_type == "code":
        return "code_tests"
    if by_truth:
        return "ground_truth" if questions.columns.answer else verifier
    return "ground_truth" if verifier in ("task_scorer", "code_tests") else verifier


def asks_model(recipe: Recipe, method: Method, name: str | None) -> bool:
    """Tell whether a model judges a set's answers."""
    generates = recipe.evaluate.how == "generate" and _own(method, name) is None
    return generates and not isinstance(verifier_of(recipe, name), str)


def judged_stages(recipe: Recipe) -> list[Stage]:
    """Return the stages in which a model judges the answers of evaluation. Raises ConfigError for a judge
    that cannot.
    """
    method = load_method(recipe)
    names = (name for name in (None, *recipe.evaluate.sets) if asks_model(recipe, method, name))
    return [stage(recipe, name) for name in names]


def check_tasks(run: RunDir, recipe: Recipe) -> None:
    """Raise DataError for tasks whose answers verify could not judge, before anything is asked."""
    used = verifiers.verifiers_in(load_method(recipe).stages()["verify"], recipe)
    first = [row.payload for row in islice(run.rows(run.tasks("train")), 1)]  # all have the same columns
    for verifier in used:
        if problem := _problem(verifier, first):
            raise DataError(f"tasks: {problem}")
    if "code_tests" in used:
        code_tests.check_isolation()


def check_answers(run: RunDir, recipe: Recipe) -> None:
    """Raise DataError for evaluation questions whose answers cannot be judged, before anything is asked."""
    method, how_scored = load_method(recipe), recipe.evaluate.how
    for name in (None, *recipe.evaluate.sets):
        if _own(method, name) and how_scored == "generate":
            continue
        rows = run.rows(run.tasks("held_out" if name is None else f"sets/{name}"))
        verifier = verifier_of(recipe, name)
        payloads = [row.payload for row in rows]
        for how in functions_in(verifier) if how_scored == "generate" else [how_scored]:
            if problem := NOTHING_JUDGED if how == "accept_all" else _problem(how, payloads):
                raise DataError(f"{'held_out' if name is None else f'evaluate.sets.{name}'}: {problem}")


def _problem(how: str | None, tasks: list[dict[str, Any]]) -> str:
    """Return why these tasks cannot be judged by a verifier, by loglikelihood or by perplexity."""
    unanswered = sum(task.get("answer") is None for task in tasks)
    unscored = sum(not verifiers.has_scorer(task) for task in tasks)
    without_options = sum(not task.get("options") for task in tasks)
    if how == "task_scorer" and unscored:
        return (
            f"{unscored} of {len(tasks)} questions have no scorer of their own, which verifier: task_scorer "
            "needs; only those of source: reasoning_gym have one. Use verifier: ground_truth, or your own as "
            "module:function, and a new run directory."
        )
    untested = sum(not task.get("tests") for task in tasks)
    if how == "code_tests" and untested:
        return (
            f"{untested} of {len(tasks)} questions have no tests, which verifier: code_tests runs. Name "
            "their column (columns.tests), and use a new run directory."
        )
    unsolved = sum(not demonstration(task) for task in tasks)
    if how == "perplexity" and unsolved:
        return (
            f"{unsolved} of {len(tasks)} questions have neither solution nor answer, and evaluate.how: "
            "perplexity scores that. Name its column (columns.solution, columns.answer), and use a new run "
            "directory."
        )
    if how in ("ground_truth", "majority_vote") and untested < len(tasks):
        return "the questions ask for programs: set verifier: code_tests, and use a new run directory."
    if how == "loglikelihood" and (without := max(without_options, unanswered)):
        return (
            f"{without} of {len(tasks)} questions have no options or no answer, and evaluate.how: "
            "loglikelihood chooses among options. Name their columns (columns.options, columns.answer), or "
            "use evaluate.how: generate. Then use a new run directory."
        )
    if how in ("ground_truth", "majority_vote") and unanswered:
        return (
            f"{unanswered} of {len(tasks)} questions have no answer to judge a model's by. If the tasks have "
            "none, use verifier: {kind: judge}; or majority_vote, and add held-out questions that do: "
            "held_out: {source: {source: jsonl, path: checked.jsonl}}. Then use a new run directory."
        )
    return ""


async def evaluate(round_: Round, engine: EngineHandle | LazyEngine, seats: TakeSeats) -> dict[str, Any]:
    """Evaluate a round's model (or "base"), write evaluation/round-NNN.json and return its content.

    `seats` returns the engines of a stage in which a model judges. They start after all answers are there,
    since they may need what the round's model occupies.

    `tokens` and `seconds` cover all sets; the measures of evaluate.sets are under `sets`.
    """
    run, recipe = round_.run, round_.recipe
    check_answers(run, recipe)
    manifests, judging = [], []
    for name in (None, *recipe.evaluate.sets):
        source = input_of(run, run.tasks("held_out" if name is None else f"sets/{name}"))
        factory, where = functools.partial(stage, name=name), stage_name(name)
        if asks_model(recipe, round_.method, name):
            judging.append((where, factory, answer_name(name)))
            factory, where = functools.partial(answer_stage, name=name), answer_name(name)
        manifests.append(await run_stage(round_, where, factory, source, engine))
    if (failed := _failed_before(round_)) is not None:
        manifests.append(await run_stage(round_, RESUMED, resumed_stage, failed, engine))
    perplexity = await closed_book.perplexity(round_, engine)
    for where, factory, answers in judging:
        taken = seats(factory(recipe))
        manifests.append(await run_stage(round_, where, factory, round_.input(answers), seats=taken))
    facts = {
        "round": round_.number,
        "model": engine.model_name,
        **measures(round_),
        "tokens": sum(m.tokens.completion for m in manifests),
        "seconds": round(sum(m.seconds for m in manifests), 2),
    }
    if recipe.evaluate.sets:
        facts["sets"] = {name: measures(round_, name) for name in recipe.evaluate.sets}
    facts |= perplexity
    files.write_json(run.evaluation(round_.number), facts)
    return facts


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


async def _answer(method: Method, recipe: Recipe, verifier: str | None, row: Row, llm: LLM) -> Outcome:
    settings, question = recipe.evaluate, method.question(row)
    surest, varied = _samplings(recipe)
    greedy = await llm.chat(question, step="greedy", sampling=surest)
    sampled: list[Completion] = []
    if settings.samples:
        sampled = await llm.chat(question, step="sampled", n=settings.samples, sampling=varied)
    judge = functools.partial(_judge, verifier, {**row.payload, "model": llm.model})
    refined: dict[str, Any] = {}
    if isinstance(method, RefinesAnswers) and method.refinement() is not None:
        refined["refined"] = judge(await method.improve(row, greedy[0], llm, surest))
        # One after the other, so that equal answers get the same sample numbers in every run.
        refined["refined_samples"] = [judge(await method.improve(row, a, llm, varied)) for a in sampled]
    answers = {"greedy": judge(greedy[0]), "samples": [judge(c) for c in sampled], **refined}
    return Kept([row.child(STAGE, llm.round, **answers)])


def _samplings(recipe: Recipe) -> tuple[Sampling, Sampling]:
    """Return the parameters of the greedy answers and of the sampled ones: the recipe's (stop ids in `extra`
    included), with evaluation's own temperature and length.
    """
    own = {
        "max_tokens": recipe.evaluate.max_tokens or recipe.sampling.max_tokens,
        "seed": None,
        "logprobs": None,
    }
    return (
        recipe.sampling.override(temperature=0, **own),
        recipe.sampling.override(temperature=recipe.evaluate.temperature, **own),
    )


def _judge(verifier: str | None, task: dict[str, Any], completion: Completion) -> dict[str, Any]:
    """Score an answer. A verifier sees the task's keys and a sampled answer's, as in the stage verify.

    Without one, a model judges the answer later.
    """
    if verifier is None:
        return {"text": completion.text, "tokens": completion.completion_tokens}
    payload = Payload({**task, **answer_fields(completion), "text": completion.text})
    verdict = verifiers.scorer(verifier)(payload)
    loose = verifiers.judge_loosely(verifier, payload, verdict)
    return {
        "text": completion.text,
        "correct": verdict.correct,
        "extracted": verdict.extracted,
        "problem": verdict.problem,
        **({} if loose is None else {"loose": loose}),
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
