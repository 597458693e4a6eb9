"""The stage in which a round's model writes new questions: rounds/NNN/propose.

A request shows known questions, real ones and model-written ones of earlier rounds. What comes back passes
the checks of stages/steps/new_questions.py and those against held-out questions; every rejected question is
counted with its reason.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from pipeline.config import Recipe
from pipeline.engines.pool import EngineHandle, LazyEngine
from pipeline.errors import StageError
from pipeline.ids import digest
from pipeline.methods import method_stage
from pipeline.protocols import Proposals
from pipeline.round import Input, Round, input_of
from pipeline.rows import Dropped, Row
from pipeline.runner.stage import run_stage
from pipeline.stage import PROPOSE, DatasetStep, Stage
from pipeline.store.manifest import Manifest
from stages.rounds.publishing import held_out_questions
from stages.steps import decontaminate
from stages.steps.new_questions import Known, drop_near_duplicates, requests, well_formed


async def propose(round_: Round, proposals: Proposals, engine: EngineHandle | LazyEngine) -> Manifest:
    """Let the model write new questions: task rows without an answer, whose parents are the questions it was
    shown.
    """
    real, made = _real(round_), _made(round_)
    if len(real) < proposals.shown:
        raise StageError(
            f"round {round_.number}: a request for new questions shows {proposals.shown} known ones, and "
            f"there are {len(real)} "
            "tasks. Show fewer."
        )
    tasks, number = round_.run.tasks("train"), int(round_.number)
    known = digest(
        [input_of(round_.run, tasks).digest, [k.id for k in made], proposals.calls, proposals.shown]
    )
    rows = lambda: iter(requests(real, made, proposals, round_.recipe.seed, number))  # noqa: E731
    source = Input(rows, proposals.calls, known, tasks)
    return await run_stage(round_, PROPOSE, partial(stage, round_, proposals), source, engine)


def stage(round_: Round, proposals: Proposals, recipe: Recipe) -> Stage:
    """Return the method's stage "propose", with the checks of new questions as its steps."""

    def pool() -> list[Known]:
        asked = (asked for questions in held_out_questions(round_).values() for asked in questions)
        held_out = [Known("", one.question) for one in asked]
        return [*_real(round_), *_demonstrated(round_), *_made(round_), *held_out]

    steps: dict[str, DatasetStep] = {"well_formed": well_formed(lambda: _real(round_))}
    sets = held_out_questions(round_)
    for which in sets:
        steps[which.replace("/", "_")] = partial(_held_out, round_, which)
    steps["new"] = drop_near_duplicates(pool, proposals.max_rouge)
    made = method_stage(PROPOSE, recipe)
    config = {
        "method": made.config,
        "max_rouge": proposals.max_rouge,
        "ngram": recipe.held_out.ngram,
        "held_out": {which: decontaminate.digest_of(questions) for which, questions in sets.items()},
        "demonstrations": digest([k.id for k in _demonstrated(round_)]),
    }
    return replace(made, steps=steps, config=config)


def _held_out(
    round_: Round, which: str, rows: Callable[[], Iterable[Row]]
) -> Iterator[tuple[Row, Dropped | None]]:
    search = decontaminate.search_for(held_out_questions(round_)[which], round_.recipe.held_out.ngram)
    for row in rows():
        yield row, search.leak(decontaminate.Asked.of(row.payload), "")


def _real(round_: Round) -> list[Known]:
    return _known(round_.run.rows(round_.run.tasks("train")))


def _demonstrated(round_: Round) -> list[Known]:
    """The demonstrations' questions: known, though never shown, since their answers are published."""
    folder = round_.run.tasks("demonstrations")
    return _known(round_.run.rows(folder)) if round_.run.manifest(folder) else []


def _made(round_: Round) -> list[Known]:
    """The questions that models of earlier rounds wrote."""
    return _known(row for r in round_.earlier(1) if r.manifest(PROPOSE) for row in r.rows(PROPOSE))


def _known(rows: Iterable[Row]) -> list[Known]:
    return sorted(Known(row.id, row.payload["question"]) for row in rows)
