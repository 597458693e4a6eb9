"""A new run that starts from another one's rounds: for arms that differ only in what comes later."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

from pipeline import fingerprint, registry
from pipeline.config import Recipe
from pipeline.errors import SelfloopError
from pipeline.methods import load_method, method_stage, question_templates
from pipeline.prompts import Prompts
from pipeline.protocols import Proposals, ProposesQuestions
from pipeline.round import Round
from pipeline.rundir import RunDir, differences, may_change, round_name
from pipeline.stage import LABELS, PAIRS, PROPOSE, PUBLISH, STAGES
from pipeline.store import files
from pipeline.store.lock import run_lock

# Recipe sections whose results a branch takes over as they are.
TAKEN_OVER = (
    *("tasks", "held_out", "demonstrations", "model", "evaluate"),
    *("train.cpt.replay", "train.cpt.replay_held_out"),
)
Difference = tuple[str, Any, Any]  # a setting's key, and its values in two recipes


def branch(source: RunDir, target: RunDir, recipe: Recipe, round_: int) -> None:
    """Make `target` a run with `recipe` that shares `source`'s rounds up to `round_`.

    Of the next round it also shares the stages up to the first one that `recipe` configures differently:
    those rows come from the model of `round_`, so both runs would produce the same ones. Files are
    hard-linked where the file system allows it, since none of them is ever written again. The shared rounds
    stay as they are, whatever `recipe` says. Raises SelfloopError when `source` has not got that far, or
    `target` exists.
    """
    if source.local is None or target.local is None:
        raise SelfloopError("branch: both runs must be on a mounted file system.")
    if target.exists():
        raise SelfloopError(f"{target.root}: there is a run here already; a branch needs a new directory.")
    before = source.recipe()
    changed = contradictions(before, recipe)
    if not judged_alike(before, recipe):
        changed.append(("verifier", before.verifier, recipe.verifier))  # evaluation uses it too
    if changed:
        raise SelfloopError(
            f"a branch takes over tasks, models and evaluations of {source.root}, which were made with other "
            f"settings:\n{listed(changed)}\nKeep these as they are, or start a new run."
        )
    if not (starts_from_base(before, round_) or files.exists(source.evaluation(round_))):
        raise SelfloopError(
            f"{source.root}: round {round_} is not evaluated yet, so nothing can branch from it."
        )
    shared = chain(rounds_up_to(source, round_), _next_round(source, recipe, round_ + 1))
    make_run(source, target, recipe, shared, round_)


def make_run(
    source: RunDir, target: RunDir, recipe: Recipe, paths: Iterable[Path], round_: int | None
) -> None:
    """Make `target` a run with `recipe` out of paths of `source`, those that exist. `round_` is the last
    round of which all is shared.
    """
    assert source.local is not None and target.local is not None
    with run_lock(target.local):
        for path in paths:
            if path.exists():
                files.link(path, target.local / path.relative_to(source.local))
        if round_ is not None:
            files.write_json(target.path("branch.json"), {"source": source.root, "round": round_})
        target.freeze(recipe)  # last, since run.yaml is what makes it a run


def contradictions(before: Recipe, recipe: Recipe) -> list[Difference]:
    """Return where `recipe` contradicts tasks, models and evaluations that were made with `before`.

    The seed may differ: it changes what is drawn and sampled from here on, not the tasks and the shared
    rounds.
    """
    left_out = {"evaluate": {"engine", "bootstrap", "base_model"}, "held_out": {"ngram"}}
    old, new = (r.model_dump(mode="json", exclude=left_out) for r in (before, recipe))
    changed = [
        d for d in differences(old, new) if any(f"{d[0]}.".startswith(f"{name}.") for name in TAKEN_OVER)
    ]
    was, now = Prompts.of(before), Prompts.of(recipe)
    asked = question_templates(load_method(recipe)) if before.prompts != recipe.prompts else ()
    changed += [(f"prompts.{p}", "...", "another text") for p in asked if was.source(p) != now.source(p)]
    return changed


def listed(changed: Iterable[Difference]) -> str:
    """Return one line for each setting that differs."""
    return "\n".join(f"  {key}: {a!r} -> {b!r}" for key, a, b in changed)


def judged_alike(one: Recipe, other: Recipe) -> bool:
    """Tell whether evaluation judges alike in both recipes; a majority vote judges there by the truth."""
    used = [recipe.evaluate.verifier or recipe.verifier for recipe in (one, other)]
    names = [verifier for verifier in used if isinstance(verifier, str)]
    if len(names) < len(used):
        return used[0] == used[1]
    return registry.resolve("verifier", names[0]) is registry.resolve("verifier", names[1])


def starts_from_base(recipe: Recipe, round_: int) -> bool:
    """Tell whether round `round_` + 1 is the first of all, since a run has no round 0 to train."""
    return round_ == 0 and recipe.demonstrations is None


def rounds_up_to(source: RunDir, round_: int) -> Iterator[Path]:
    """Yield all folders and files of the rounds up to `round_`, with the tasks; some may not exist."""
    root = Path(source.root)
    yield root / "tasks"
    yield from (root / "rounds" / name for name in ("base", *map(round_name, range(round_ + 1))))
    yield Path(source.evaluation("base"))
    for r in range(round_ + 1):
        yield from (Path(p) for p in (source.model(r), source.model(r, "sft"), source.evaluation(r)))
        yield from (datasets / f"round-{r:03d}" for datasets in (root / "datasets").glob("*"))


def _next_round(source: RunDir, recipe: Recipe, number: int) -> Iterator[Path]:
    """Yield the folders of a round that a branch with `recipe` shares."""
    made = _made_alike(source, recipe, number)
    yield from (Path(source.stage(number, stage)) for stage in made)
    if PUBLISH in made:
        yield from (d / f"round-{number:03d}" for d in (Path(source.root) / "datasets").glob("*"))


def _made_alike(source: RunDir, recipe: Recipe, number: int) -> list[str]:
    """Return the finished stages of a round that `recipe` would produce identically, up to the first that it
    would not.
    """
    before, round_ = source.recipe(), Round(source, number, recipe)
    if not _asked_alike(before, recipe, number) or not _engines_alike(before, recipe):
        return []
    alike = len(list(takewhile(partial(is_alike, round_), STAGES)))
    own = (
        source.branched_from() or 0
    ) < number  # else the source shares that round with a run of yet another recipe
    whole = alike == len(STAGES) and own and _published_alike(before, recipe, number)
    published = [PUBLISH, PAIRS, LABELS] if whole else []
    names = [*([PROPOSE] if alike else []), *STAGES[:alike], *published]
    return [name for name in names if round_.manifest(name) is not None]


def _asked_alike(one: Recipe, other: Recipe, round_: int) -> bool:
    """Tell whether both recipes ask a round the same questions: those drawn, and those the model writes."""
    if any(getattr(one, s) != getattr(other, s) for s in ("questions_per_round", "new_questions", "draw")):
        return False
    proposals = [_proposals(one, round_), _proposals(other, round_)]
    if proposals == [None, None]:
        return True
    if None in proposals or proposals[0] != proposals[1]:
        return False
    configs = [(method_stage(PROPOSE, r).config, r.sampling, r.held_out.ngram) for r in (one, other)]
    return configs[0] == configs[1]


def _proposals(recipe: Recipe, round_: int) -> Proposals | None:
    method = load_method(recipe)
    return method.proposals(round_) if isinstance(method, ProposesQuestions) else None


def _engines_alike(one: Recipe, other: Recipe) -> bool:
    """Tell whether the engines differ in nothing that answers depend on."""
    changed = differences(one.engine.model_dump(mode="json"), other.engine.model_dump(mode="json"))
    return all(may_change(f"engine.{key}", other) for key, *_ in changed)


def _published_alike(one: Recipe, other: Recipe, round_: int) -> bool:
    sections = ("method", "filters", "held_out", "preferences", "prompts")
    same = all(getattr(one, s) == getattr(other, s) for s in sections)
    compared = [recipe.accumulate.always_with(round_) for recipe in (one, other)]
    return same and compared[0] == compared[1] and one.train.max_length == other.train.max_length


def is_alike(round_: Round, name: str) -> bool:
    """Tell whether a stage is done, and the round's recipe would make the same of its input."""
    if round_.manifest(name) is None:
        return False
    stored = fingerprint.stored(round_.folder(name))
    stage = round_.method.stages()[name]
    now = fingerprint.components(
        stage, round_.recipe, model=stored["model"], inputs=stored["input"], seats=stored.get("models")
    )
    return not fingerprint.changed(stored, now)
