"""The stage verify of a verifier with settings.

Its function judges one answer and keeps what the models asked have said, whatever the verdict; a step over
all rows then keeps and drops. So every judgement is there to be measured, and its score for what comes after.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from pipeline.config import Recipe, VerifierSection
from pipeline.errors import ConfigError
from pipeline.ids import unit_interval
from pipeline.prompts import Prompts
from pipeline.protocols import Work
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM
from pipeline.stage import ROUND, UNTRAINED, DatasetStep, Seat, Stage
from stages.judges import base, measured
from stages.judges.base import JUDGEMENTS, LOW_SCORE, Verifier
from stages.judges.combined import make
from stages.judges.pairwise import RIVALS
from stages.steps.other_model import not_served

VERSION = 1


def judging(recipe: Recipe) -> Stage:
    """Return the verify stage for a recipe whose verifier is a section.

    Drop reasons: low_score (less than the threshold, or not in the top share), unreadable_judgement, the
    problems and wrong_answer of functions among several verifiers; of a pairwise judge also
    no_consistent_preference and no_rival.
    """
    config = recipe.verifier
    assert isinstance(config, VerifierSection)
    verifier = checked(recipe, config)
    return Stage(
        row=partial(judge, verifier),
        steps={**verifier.steps(), "decide": decide(config, recipe.seed)},
        prompts=verifier.prompts,
        config={"verifier": config.identity()},
        version=VERSION,
        summary=partial(measured.summary, recipe.seed),
        seats=verifier.seats,
        completed=verifier.completed,
        work=Work(verifier.asks(), 0, 1),
    )


def checked(recipe: Recipe, config: VerifierSection) -> Verifier:
    """Return a recipe's verifier. Raises ConfigError for templates and seats that cannot work."""
    verifier, prompts = make(config), Prompts.of(recipe)
    for template in verifier.prompts:
        prompts.check(template)
    shared = {
        name: seat.model for name, seat in verifier.seats.items() if seat.engine in (None, recipe.engine)
    }
    if len(set(shared.values())) > 1 and not recipe.engine.implementation.is_endpoint:
        named = ", ".join(f"{name} asks {model}" for name, model in shared.items())
        raise ConfigError(
            f"the recipe's engine serves one model at a time, and {named}. Give all but one an "
            "engine of its own."
        )
    for name, seat in verifier.seats.items():
        _check_seat(recipe, name, seat)
    return verifier


def _check_seat(recipe: Recipe, name: str, seat: Seat) -> None:
    """Raise ConfigError for a local model that the recipe's endpoint would never serve."""
    if seat.engine is None and seat.model not in (UNTRAINED, ROUND) and _is_endpoint(recipe):
        raise not_served(name, seat.model, "to the verifier, or leave model out")


def _is_endpoint(recipe: Recipe) -> bool:
    return recipe.engine.implementation.is_endpoint


def is_judging(stage: Stage) -> bool:
    """Tell whether a stage is one that `judging` made."""
    return getattr(stage.row, "func", None) is judge


async def judge(verifier: Verifier, row: Row, llm: LLM) -> Outcome:
    """Judge one answer; `decide` acts on the verdict."""
    verdict, said, refused = await verifier.judge(row, llm)
    why = {} if verdict.correct else {"detail": verdict.detail, "refused": refused}
    child = row.child("verify", 0, verdict=verdict.to_payload() | why, **{JUDGEMENTS: dict(said)})
    child.payload.pop(RIVALS, None)
    return Kept([child])


def decide(config: VerifierSection, seed: int) -> DatasetStep:
    """Return the step that keeps the approved answers, or their top share (base.Keeping)."""
    share = getattr(config, "top_share", None)
    overall = share is not None and getattr(config, "top_of", "") == "all"

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        best = _best(rows(), share, overall, seed) if share else None
        for row in rows():
            verdict = row.payload["verdict"]
            if not verdict["correct"]:
                yield row, _refusal(row)
            elif best is not None and row.id not in best:
                of = "all answers" if overall else "its question's"
                detail = f"score {base.shown(verdict['score'])} is not among the best {share:.0%} of {of}"
                yield row, Dropped(LOW_SCORE, detail, row.payload["text"])
            else:
                yield row, None

    return step


def _best(rows: Iterable[Row], share: float, overall: bool, seed: int) -> set[str]:
    """Return the ids of the approved answers with the highest scores, rounded up; ties are drawn by seed."""
    ranked: dict[str, list[tuple[float, float, str]]] = {}
    for row in rows:
        verdict = row.payload["verdict"]
        if verdict["correct"]:
            score = 1.0 if verdict["score"] is None else verdict["score"]
            group = "" if overall else row.payload["task_id"]
            ranked.setdefault(group, []).append((-score, unit_interval(seed, "top_share", row.id), row.id))
    return {id_ for group in ranked.values() for *_, id_ in sorted(group)[: math.ceil(share * len(group))]}


def _refusal(row: Row) -> Dropped:
    verdict: dict[str, Any] = row.payload["verdict"]
    reason = verdict["problem"] or verdict.get("refused", LOW_SCORE)
    return Dropped(reason, verdict.get("detail", ""), row.payload["text"])
