"""The stage in which a round makes questions of its own: rounds/NNN/propose.

A request shows known questions, real ones and model-made ones of earlier rounds. What comes back goes through the checks of
stages/steps/new_questions.py and those against held-out questions (held_out_exact, held_out_ngram); every reject is counted with its reason.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from pipeline.config import Recipe
from pipeline.engines.pool import EngineHandle
from pipeline.errors import StageError
from pipeline.ids import digest
from pipeline.methods import PROPOSE, DatasetStep, Proposals, Stage
from pipeline.rows import Dropped, Row
from pipeline.rundir import RunDir
from pipeline.runner.stage import Input, input_of, run_stage
from pipeline.runner.worker import StageFactory
from pipeline.store.manifest import Manifest
from stages.rounds.publishing import held_out_questions
from stages.steps import decontaminate
from stages.steps.new_questions import Known, new, requests, well_formed


async def propose(
    run: RunDir,
    round_: int,
    recipe: Recipe,
    proposals: Proposals,
    factory: StageFactory,
    engine: EngineHandle,
) -> Manifest:
    """Let the model make new questions, as rounds/NNN/propose: task rows without an answer, those whose lists they were shown in as parents."""
    real, made = _real(run), _made(run, range(1, round_))
    if len(real) < proposals.shown:
        raise StageError(
            f"round {round_}: a request for new questions shows {proposals.shown} known ones, and there are {len(real)} tasks. Show fewer."
        )
    source = Input(
        lambda: iter(requests(real, made, proposals, recipe.seed, round_)),
        proposals.calls,
        digest(
            [input_of(run, run.tasks("train")).digest, [k.id for k in made], proposals.calls, proposals.shown]
        ),
        run.tasks("train"),
    )
    return await run_stage(
        run, round_, PROPOSE, partial(_stage, run, round_, factory, proposals), source, recipe, engine
    )


def _stage(run: RunDir, round_: int, factory: StageFactory, proposals: Proposals, recipe: Recipe) -> Stage:
    def pool() -> list[Known]:
        held_out = [Known("", q) for questions in held_out_questions(run, recipe).values() for q in questions]
        return [*_real(run), *_demonstrated(run), *_made(run, range(1, round_)), *held_out]

    steps: dict[str, DatasetStep] = {"well_formed": well_formed(lambda: _real(run))}
    for which in held_out_questions(run, recipe):
        steps[which.replace("/", "_")] = partial(_held_out, run, recipe, which)
    steps["new"] = new(pool, proposals.max_rouge)
    stage = factory(recipe)
    sets = {which: digest(questions) for which, questions in held_out_questions(run, recipe).items()}
    known = digest([k.id for k in _demonstrated(run)])
    config = {
        "method": stage.config,
        "max_rouge": proposals.max_rouge,
        "ngram": recipe.held_out.ngram,
        "held_out": sets,
        "demonstrations": known,
    }
    return replace(stage, steps=steps, config=config)


def _held_out(
    run: RunDir, recipe: Recipe, which: str, rows: Callable[[], Iterable[Row]]
) -> Iterator[tuple[Row, Dropped | None]]:
    search = decontaminate.search_for(held_out_questions(run, recipe)[which], recipe.held_out.ngram)
    for row in rows():
        yield row, search.leak(row.payload["question"], "")


def _real(run: RunDir) -> list[Known]:
    return _known(run.rows(run.tasks("train")))


def _demonstrated(run: RunDir) -> list[Known]:
    """The demonstrations' questions, which are known though none of them is shown: their answers are published."""
    folder = run.tasks("demonstrations")
    return _known(run.rows(folder)) if run.manifest(folder) else []


def _made(run: RunDir, rounds: Iterable[int]) -> list[Known]:
    folders = [run.stage(r, PROPOSE) for r in rounds]
    return _known(row for folder in folders if run.manifest(folder) for row in run.rows(folder))


def _known(rows: Iterable[Row]) -> list[Known]:
    return sorted(Known(row.id, row.payload["question"]) for row in rows)
