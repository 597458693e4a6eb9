"""Evaluation on the held-out set and on evaluate.sets: a greedy answer, and samples for pass@k and maj@k, per question; one JSON per round."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from pipeline import registry
from pipeline.config import Recipe
from pipeline.engines.base import Completion, Sampling
from pipeline.engines.pool import EngineHandle
from pipeline.errors import DataError
from pipeline.ids import digest
from pipeline.methods import RESUMED, Method, Stage
from pipeline.rows import Kept, Outcome, Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.runner.llm import LLM
from pipeline.runner.stage import Input, input_of, run_stage
from pipeline.statistics import bootstrap, flips, majority, paired_difference, pass_at_k, quantiles
from pipeline.store import files
from stages.answers import normalized
from stages.rounds import closed_book
from stages.steps import verifiers

STAGE = "evaluate"
VERSION = 2


def stage(recipe: Recipe, name: str | None = None) -> Stage:
    """Return the evaluation stage of the held-out set, or of the set `name`: one question in, one row with its judged answers out."""
    method = _method(recipe)
    verifier = verifier_of(recipe, name)
    if recipe.evaluate.how == "loglikelihood":
        return Stage(
            row=closed_book.choose, prompts=(closed_book.QUESTION,), config={"how": recipe.evaluate.how}
        )
    config = recipe.evaluate.model_dump(
        mode="json", exclude={"engine", "bootstrap", "base_model", "k", "sets", "how"}
    ) | {"verifier": verifier}
    if (own := method.evaluation(name)) is not None:
        return replace(own, config=config | {"method": own.config})
    if (refinement := method.refinement()) is not None:
        config["refinement"] = refinement
    return Stage(
        row=functools.partial(_answer, method, recipe, verifier),
        prompts=method.question_prompts(),
        config=config,
        version=VERSION,
    )


def _method(recipe: Recipe) -> Method:
    return registry.resolve("method", recipe.method["name"])(recipe)


def resumed_stage(recipe: Recipe) -> Stage:
    """Return the stage in which a model goes on from failed beginnings (Method.resumption)."""
    own = _method(recipe).resumption()
    return replace(own, config={"max_tokens": recipe.evaluate.max_tokens, "method": own.config})


def verifier_of(recipe: Recipe, name: str | None) -> str:
    """Return what judges the answers to a set's questions: reasoning_gym's own scorer where they come from there."""
    if name is None:
        return recipe.verifier
    if recipe.evaluate.sets[name].source == "reasoning_gym":
        return "task_scorer"
    return "ground_truth" if recipe.verifier == "task_scorer" else recipe.verifier


def stage_name(name: str | None) -> str:
    """Return the name of the stage that evaluates the held-out set, or the set `name`."""
    return STAGE if name is None else f"{STAGE}-{name}"


async def _answer(method: Method, recipe: Recipe, verifier: str, row: Row, llm: LLM) -> Outcome:
    settings, question = recipe.evaluate, method.question(row)
    limit = {"max_tokens": settings.max_tokens or recipe.sampling.max_tokens, "stop": recipe.sampling.stop}
    surest, varied = Sampling(temperature=0, **limit), Sampling(temperature=settings.temperature, **limit)
    greedy = await llm.chat(question, step="greedy", sampling=surest)
    sampled: list[Completion] = []
    if settings.samples:
        sampled = await llm.chat(question, step="sampled", n=settings.samples, sampling=varied)
    score = verifiers.scorer(verifier)
    judge = functools.partial(_judge, score, row.payload)
    again = {}
    if (
        method.refinement() is not None
    ):  # one after the other: equal answers are then told apart in every run alike
        again["refined"] = judge(await method.improve(row, greedy[0], llm, surest))
        again["refined_samples"] = [
            judge(await method.improve(row, answer, llm, varied)) for answer in sampled
        ]
    return Kept(
        [row.child(STAGE, llm.round, greedy=judge(greedy[0]), samples=[judge(c) for c in sampled], **again)]
    )


def _judge(score: Any, task: dict[str, Any], completion: Completion) -> dict[str, Any]:
    verdict = score({**task, "text": completion.text, "finish_reason": completion.finish_reason})
    key = None if verdict.extracted is None else _vote(verdict.extracted, task)
    return {
        "text": completion.text,
        "correct": verdict.correct,
        "extracted": verdict.extracted,
        "key": key,
        "tokens": completion.completion_tokens,
    }


def _vote(extracted: str, task: dict[str, Any]) -> str | None:
    """Return what equal answers share. A scorer of the task's own reads answers that are none of its answer_type: they are texts then, not all one vote."""
    mapping = extracted.count("=") > 1  # "A=1, B=2": of which a number would be the last
    return (
        (None if mapping else normalized(extracted, task["answer_type"], task.get("options")))
        or normalized(extracted, "text")
        or None
    )


def check_answers(run: RunDir, recipe: Recipe) -> None:
    """Raise DataError when there are questions to evaluate on whose answers cannot be judged, before anything is generated for them."""
    if recipe.evaluate.how != "generate":
        return
    for name in (None, *recipe.evaluate.sets):
        if (
            verifier_of(recipe, name) not in ("ground_truth", "majority_vote")
            or _method(recipe).evaluation(name) is not None
        ):
            continue
        rows = list(run.rows(run.tasks("held_out" if name is None else f"sets/{name}")))
        if without := sum(row.payload.get("answer") is None for row in rows):
            what = "held_out" if name is None else f"evaluate.sets.{name}"
            raise DataError(
                f"{what}: {without} of {len(rows)} questions have no answer, so no model can be evaluated on them. Where the tasks have none (verifier: "
                "majority_vote), give questions that have: held_out: {source: {source: jsonl, path: checked.jsonl}}. Then take a new run directory."
            )


async def evaluate(run: RunDir, round_: RoundKey, recipe: Recipe, engine: EngineHandle) -> dict[str, Any]:
    """Evaluate a round's model (or "base") and write evaluation/round-NNN.json. Returns its content.

    `tokens` and `seconds` are those of all sets together; what a set of its own measured stands under `sets`.
    """
    check_answers(run, recipe)
    manifests = {}
    for name in (None, *recipe.evaluate.sets):
        source = input_of(run, run.tasks("held_out" if name is None else f"sets/{name}"))
        manifests[name] = await run_stage(
            run, round_, stage_name(name), functools.partial(stage, name=name), source, recipe, engine
        )
    if (failed := _failed_before(run, round_, recipe)) is not None:
        manifests[RESUMED] = await run_stage(run, round_, RESUMED, resumed_stage, failed, recipe, engine)
    facts = {
        "round": round_,
        "model": engine.model_name,
        **measures(run, round_, recipe),
        "tokens": sum(m.tokens.completion for m in manifests.values()),
        "seconds": round(sum(m.seconds for m in manifests.values()), 2),
    }
    if recipe.evaluate.sets:
        facts["sets"] = {name: measures(run, round_, recipe, name) for name in recipe.evaluate.sets}
    facts |= await closed_book.perplexity(run, round_, recipe, engine)
    files.write_json(run.evaluation(round_), facts)
    return facts


def is_done(run: RunDir, round_: RoundKey, recipe: Recipe) -> bool:
    """Tell whether no question of a round is left to be asked."""
    asked = [stage_name(name) for name in (None, *recipe.evaluate.sets)]
    asked += [RESUMED] if _failed_before(run, round_, recipe) is not None else []
    return all(
        run.manifest(run.stage(round_, name)) is not None for name in asked
    ) and closed_book.is_measured(run, round_)


def _failed_before(run: RunDir, round_: RoundKey, recipe: Recipe) -> Input | None:
    """Return the held-out rows that the run's first model failed on, for a method and a round that go on from there."""
    _, first = _reference(run, round_)
    folder = run.stage(first, STAGE)
    if round_ in ("base", first) or run.manifest(folder) is None or _method(recipe).resumption() is None:
        return None
    source, rows = input_of(run, folder), functools.partial(_failed, run, folder)
    count = sum(1 for _ in rows())
    return Input(rows, count, digest([source.digest, "failed"]), folder) if count else None


def _failed(run: RunDir, folder: str) -> Iterator[Row]:
    return (row for row in run.rows(folder) if not row.payload["greedy"]["correct"])


def measures(run: RunDir, round_: RoundKey, recipe: Recipe, name: str | None = None) -> dict[str, Any]:
    """Compute all measures of a round on a set from its evaluated rows. Unparsed and failed answers count as wrong."""
    settings, folder = recipe.evaluate, run.stage(round_, stage_name(name))
    rows = list(run.rows(folder))
    failed = [reject["id"] for reject in run.rejects(folder, "failed")]
    right = correct_by_task(run, round_, name)
    documents = documents_by_task(run, round_, name)
    clusters = [documents[i] for i in right] if documents else None
    found: dict[str, Any] = {
        "n": len(right),
        "failed": len(failed),
        "greedy": bootstrap(list(right.values()), settings.bootstrap, recipe.seed, clusters)._asdict(),
        "parsed": sum(row.payload["greedy"]["extracted"] is not None for row in rows),
        "mean_tokens": round(sum(row.payload["greedy"]["tokens"] for row in rows) / max(1, len(rows)), 1),
    }
    if documents:
        found["documents"] = len(set(documents.values()))  # what the intervals resample, samples excepted
    lost = [0.0] * len(failed)
    further = _method(recipe).measures(rows)
    if "score" in further:  # as an episode that fails is no success, its score is none
        further["score"] = [*further["score"], *lost]
    if name is None and run.manifest(resumed := run.stage(round_, RESUMED)):
        nothing = [0.0 for _ in run.rejects(resumed, "failed")]
        further["resumed score"] = [row.payload["resumed"]["score"] for row in run.rows(resumed)] + nothing
    if further:
        found["measures"] = {name: _spread(values, recipe) for name, values in further.items() if values}
    for k in [k for k in settings.k if k <= settings.samples]:
        per_question = [
            pass_at_k(len(r.payload["samples"]), sum(s["correct"] for s in r.payload["samples"]), k)
            for r in rows
        ]
        found[f"pass@{k}"] = bootstrap(per_question + lost, settings.bootstrap, recipe.seed)._asdict()
        if k > 1 and all(
            "key" in s for r in rows for s in r.payload["samples"]
        ):  # an episode has no answer that others could share
            found[f"maj@{k}"] = bootstrap(
                [_majority_right(r.payload["samples"], k) for r in rows] + lost,
                settings.bootstrap,
                recipe.seed,
            )._asdict()
    if any("refined" in row.payload for row in rows):
        found |= _refined(rows, lost, recipe)
    for against, other in (("previous", _previous(run, round_)), _reference(run, round_)):
        if other is not None and other != round_ and files.exists(run.evaluation(other)):
            before = correct_by_task(run, other, name)
            lost_now, won_now = flips(before, right)
            found[f"against_{against}"] = {
                "round": other,
                "right_to_wrong": lost_now,
                "wrong_to_right": won_now,
                "difference": paired_difference(
                    before, right, settings.bootstrap, recipe.seed, documents
                )._asdict(),
            }
    return found


def _spread(values: list[float], recipe: Recipe) -> dict[str, Any]:
    return bootstrap(values, recipe.evaluate.bootstrap, recipe.seed)._asdict() | {
        "n": len(values),
        **quantiles(values),
    }


def correct_by_task(run: RunDir, round_: RoundKey, name: str | None = None) -> dict[str, float]:
    """Return 1.0 or 0.0 for each task id of a set: is the greedy answer right? A failed request counts as wrong."""
    folder = run.stage(round_, stage_name(name))
    right = {row.payload["task_id"]: float(row.payload["greedy"]["correct"]) for row in run.rows(folder)}
    return right | {reject["id"]: 0.0 for reject in run.rejects(folder, "failed")}


def documents_by_task(run: RunDir, round_: RoundKey, name: str | None = None) -> dict[str, str]:
    """Return which document each question of a set is about; {} where the questions do not say (columns.document)."""
    folder = run.stage(round_, stage_name(name))
    found = {row.payload["task_id"]: row.payload.get("document") for row in run.rows(folder)}
    found |= {
        reject["id"]: orjson.loads(reject["payload"]).get("document")
        for reject in run.rejects(folder, "failed")
    }
    return found if found and None not in found.values() else {}


def _previous(run: RunDir, round_: RoundKey) -> RoundKey | None:
    """Return the round whose model a round's model is compared with; without demonstrations, the first round's is the base model."""
    if round_ == "base":
        return None
    first = round_ == 0 or (round_ == 1 and not files.exists(run.evaluation(0)))
    return "base" if first else round_ - 1


def _reference(run: RunDir, round_: RoundKey) -> tuple[str, RoundKey]:
    """Return what all rounds are compared with: round 0, or the base model in a run without demonstrations."""
    return ("round_0", 0) if round_ == 0 or files.exists(run.evaluation(0)) else ("base", "base")


def _refined(rows: list[Row], lost: list[float], recipe: Recipe) -> dict[str, Any]:
    """Return what thinking again comes to: of the greedy answer, with what it won and lost, and of a majority of refined samples."""
    settings = recipe.evaluate
    before, after = ([float(row.payload[name]["correct"]) for row in rows] for name in ("greedy", "refined"))
    changes = {
        "right_to_wrong": sum(a > b for a, b in zip(before, after, strict=True)),
        "wrong_to_right": sum(a < b for a, b in zip(before, after, strict=True)),
    }
    found = {"refined": bootstrap(after + lost, settings.bootstrap, recipe.seed)._asdict() | changes}
    for k in [k for k in settings.k if 1 < k <= settings.samples]:
        votes = [_majority_right(row.payload["refined_samples"], k) for row in rows]
        found[f"refined maj@{k}"] = bootstrap(votes + lost, settings.bootstrap, recipe.seed)._asdict()
    return found


def _majority_right(samples: list[dict[str, Any]], k: int) -> float:
    samples = samples[:k]
    chosen = majority([s["key"] for s in samples])
    return float(chosen is not None and any(s["correct"] for s in samples if s["key"] == chosen))
