"""A new run with what another one generated: the same answers, for other filters and verifiers."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product, takewhile
from pathlib import Path
from typing import Any

from pipeline import fingerprint
from pipeline.branch import (
    Difference,
    contradictions,
    is_alike,
    judged_alike,
    listed,
    make_run,
    rounds_up_to,
    starts_from_base,
)
from pipeline.config import Recipe
from pipeline.errors import SelfloopError
from pipeline.methods import method_stage
from pipeline.round import Round
from pipeline.rundir import RunDir, differences, may_change
from pipeline.stage import PROPOSE, RESUMED, TRAIN
from pipeline.store import files
from pipeline.store.request_log import ANSWERED, REQUESTS

GENERATED = ("generate", "critique")
JUDGED = ("filter", "verify")
# Recipe sections that nothing depends on before an answer is filtered.
LATER = ("name", "verifier", "filters", "accumulate", "preferences", "train", "evaluate", "held_out.ngram")
EVALUATE = "evaluate"  # and evaluate-<set>: stages of evaluation
_RECORD = "reverify.json"


def generated_rounds(source: RunDir) -> list[int]:
    """Return the rounds whose answers are all there."""
    rounds = [r for r in source.rounds() if isinstance(r, int)]
    return [r for r in rounds if all(source.manifest(source.stage(r, name)) for name in GENERATED)]


def take_over(source: RunDir, target: RunDir, recipe: Recipe, rounds: Sequence[int]) -> None:
    """Make `target` a run with `recipe` that shares what `source` generated in `rounds`, in ascending order.

    Those are the stages up to critique, and later ones that ask a model and that `recipe` configures alike;
    and all of the rounds before, if they are trained, but for evaluations by another verifier. A target that
    was made so is left as it is. A stage that runs again finds the replies it had, so that it asks only what
    is new, such as another judge. Raises SelfloopError when `recipe` would have generated otherwise, and when
    `target` is another run.
    """
    if source.local is None or target.local is None:
        raise SelfloopError("both runs must be on a mounted file system.")
    if target.local.resolve().is_relative_to(source.local.resolve()):
        raise SelfloopError(
            f"{target.root}: this is {source.root}, or in it, which must stay as it is. Give another folder."
        )
    _refuse_other_answers(source, recipe)
    record = {"source": source.root, "rounds": list(rounds)}
    if target.exists():
        if _record(target) != record or _differing(target.recipe(), recipe):
            raise SelfloopError(f"{target.root}: there is another run here; this needs a new directory.")
        return
    files.write_json(target.path(_RECORD), record)
    for number, name in product(rounds, JUDGED):
        log = Path(source.stage(number, name), REQUESTS)
        if log.exists() and not _is_paid_for(Round(source, number, recipe), name):
            files.link(log, Path(target.stage(number, name), ANSWERED))
    shared = _shared(source, recipe, rounds)
    make_run(source, target, recipe, shared, rounds[0] - 1 if _is_trained(source, rounds[0] - 1) else None)


def _shared(source: RunDir, recipe: Recipe, rounds: Sequence[int]) -> Iterator[Path]:
    yield Path(source.tasks(""))
    if _is_trained(source, rounds[0] - 1):
        alike = judged_alike(source.recipe(), recipe)
        for path in rounds_up_to(source, rounds[0] - 1):
            in_rounds = path.parent.name == "rounds" and path.is_dir()
            parts = path.iterdir() if in_rounds else [path]
            yield from (part for part in parts if alike or not _is_evaluation(part))
    for number in rounds:
        asked = takewhile(partial(_is_paid_for, Round(source, number, recipe)), JUDGED)
        yield from (Path(source.stage(number, name)) for name in (PROPOSE, *GENERATED, *asked))


def _is_paid_for(round_: Round, name: str) -> bool:
    stage = round_.method.stages()[name]
    return bool(stage.prompts or stage.seats) and is_alike(round_, name)


def _refuse_other_answers(source: RunDir, recipe: Recipe) -> None:
    """Raise SelfloopError for settings with which `source` would have got other answers."""
    before = source.recipe()
    made = [[_generation(name, r) for name in GENERATED] for r in (before, recipe)]
    # A stage says what it depends on of its method and the prompts.
    later = (*LATER, "method", "prompts") if made[0] == made[1] else LATER
    refused = {key: (old, new) for key, old, new in contradictions(before, recipe)}
    refused = {key: values for key, values in refused.items() if not key.startswith("evaluate.verifier")}
    for key, old, new in _differing(before, recipe):
        if not (key.startswith(later) or may_change(key, recipe)):
            refused.setdefault(key, ("...", "another text") if key.startswith("prompts") else (old, new))
    if refused:
        raise SelfloopError(
            f"with these settings {source.root} would have got other answers than those that are there:\n"
            f"{listed((key, *values) for key, values in refused.items())}\n"
            "Change only the verifier, filters and what comes after them here; for the rest see selfloop "
            "branch, or start a new run."
        )


def _generation(name: str, recipe: Recipe) -> dict[str, Any]:
    return fingerprint.components(method_stage(name, recipe), recipe, model="", inputs="")


def _differing(one: Recipe, other: Recipe) -> list[Difference]:
    return differences(one.model_dump(mode="json"), other.model_dump(mode="json"))


def _is_trained(source: RunDir, round_: int) -> bool:
    train = files.join(source.stage(round_, TRAIN), "train.json")
    return starts_from_base(source.recipe(), round_) or files.exists(train)


def _is_evaluation(path: Path) -> bool:
    """Tell whether a stage's folder, or a file, has what a verifier said about a trained model."""
    return path.name.startswith((EVALUATE, RESUMED)) or path.parent.name == "evaluation"


def _record(run: RunDir) -> Any:
    path = run.path(_RECORD)
    return files.read_json(path) if files.exists(path) else None
