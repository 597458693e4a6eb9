"""A new run that begins where another one is: for arms that differ only in what comes later."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline import fingerprint, registry
from pipeline.config import Recipe
from pipeline.errors import SelfloopError
from pipeline.methods import PROPOSE, STAGES, method_stage
from pipeline.rundir import RunDir, differences, may_change, round_name
from pipeline.store import files
from pipeline.store.lock import run_lock


def branch(source: RunDir, target: RunDir, recipe: Recipe, round_: int) -> None:
    """Make `target` a run with `recipe` that has `source`'s rounds up to `round_`, and such rows of the round after it as `recipe` leaves alike.

    Those rows were made by the model of `round_`, so both runs would make them alike; the models that learn from them are
    what differs. Of the round after, the stages up to the first one that is configured otherwise are shared. Files are linked,
    not copied, where the file system can: none of them is ever written again. The shared rounds stay as they are, whatever
    `recipe` says (RunDir.branched_from). Raises SelfloopError when `source` is not that far, or `target` exists.
    """
    if source.local is None or target.local is None:
        raise SelfloopError("branch: both runs must be on a mounted file system.")
    if target.exists():
        raise SelfloopError(f"{target.root}: there is a run here already; a branch needs a new directory.")
    _refuse_contradictions(source, recipe)
    untrained = (
        round_ == 0 and source.recipe().demonstrations is None
    )  # there is no round 0: what the run starts from is the base model
    if not (untrained or files.exists(source.evaluation(round_))):
        raise SelfloopError(
            f"{source.root}: round {round_} is not evaluated yet, so nothing can be branched from it."
        )
    with run_lock(target.local):
        for path in _shared(source, recipe, round_):
            _link(path, target.local / path.relative_to(source.local))
        files.write_json(target.path("branch.json"), {"source": source.root, "round": round_})
        target.freeze(recipe)  # last: only now it is a run


def _refuse_contradictions(source: RunDir, recipe: Recipe) -> None:
    """Raise SelfloopError where `recipe` says of what is taken over that it is something else than it is.

    Not of the seed: another one draws and samples otherwise from here on; the tasks and the shared rounds are those of the old one.
    """
    old, new = (
        r.model_dump(
            mode="json", exclude={"evaluate": {"engine", "bootstrap", "base_model"}, "held_out": {"ngram"}}
        )
        for r in (source.recipe(), recipe)
    )
    taken_over = (
        "tasks",
        "held_out",
        "demonstrations",
        "model",
        "evaluate",
        "train.cpt.replay",
        "train.cpt.replay_held_out",
    )
    changed = [
        (key, a, b)
        for key, a, b in differences(old, new)
        if any(f"{key}.".startswith(f"{name}.") for name in taken_over)
    ]
    if registry.resolve("verifier", source.recipe().verifier) is not registry.resolve(
        "verifier", recipe.verifier
    ):
        changed.append(("verifier", source.recipe().verifier, recipe.verifier))  # evaluation's too
    if changed:
        lines = "\n".join(f"  {key}: {a!r} -> {b!r}" for key, a, b in changed)
        raise SelfloopError(
            f"a branch takes over tasks, models and evaluations of {source.root}, which were made with other settings:\n{lines}\n"
            "Leave these as they are, or start a run of its own with them."
        )


def _shared(source: RunDir, recipe: Recipe, round_: int) -> Iterator[Path]:
    """Yield the folders and files that a branch with `recipe` after `round_` shares with its source."""
    root, names = source.local, ["base", *(round_name(r) for r in range(round_ + 1))]
    yield from (root / part for part in ("tasks", *(f"rounds/{n}" for n in names)) if (root / part).exists())
    for r in range(round_ + 1):
        yield from (
            p
            for p in (Path(source.model(r)), Path(source.model(r, "sft")), Path(source.evaluation(r)))
            if p.exists()
        )
    if (base := Path(source.evaluation("base"))).exists():
        yield base
    made = _made_alike(source, recipe, round_ + 1)
    yield from (Path(source.stage(round_ + 1, stage)) for stage in made)
    for datasets in (root / "datasets").glob("*"):
        yield from (
            p for r in range(round_ + 1 + ("publish" in made)) if (p := datasets / f"round-{r:03d}").exists()
        )


def _made_alike(source: RunDir, recipe: Recipe, round_: int) -> list[str]:
    """Return the finished stages of a round that `recipe` would make alike: none after one that is configured otherwise."""
    alike = 0
    if not _asked_alike(source.recipe(), recipe, round_) or not _engines_alike(source.recipe(), recipe):
        return []  # other questions, or another engine: nothing of the round is alike
    while alike < len(STAGES) and _is_alike(source, recipe, round_, STAGES[alike]):
        alike += 1
    own = (
        source.branched_from() or 0
    ) < round_  # else the source has that round from a run whose recipe may be another one
    published = (
        ["publish", "pairs"]
        if alike == len(STAGES) and own and _published_alike(source.recipe(), recipe)
        else []
    )
    names = [*([PROPOSE] if alike else []), *STAGES[:alike], *published]
    return [name for name in names if source.manifest(source.stage(round_, name)) is not None]


def _asked_alike(one: Recipe, other: Recipe, round_: int) -> bool:
    """Tell whether both recipes ask a round the same questions: those that are drawn, and those that the method lets the model make."""
    if (one.questions_per_round, one.new_questions) != (other.questions_per_round, other.new_questions):
        return False
    made = [
        registry.resolve("method", recipe.method["name"])(recipe).proposals(round_) for recipe in (one, other)
    ]
    if made == [None, None]:
        return True
    configured = [
        (method_stage(PROPOSE, recipe).config, recipe.sampling, recipe.held_out.ngram)
        for recipe in (one, other)
        if None not in made
    ]
    return made[0] == made[1] and configured[0] == configured[1]


def _engines_alike(one: Recipe, other: Recipe) -> bool:
    """Tell whether the engines differ in nothing that answers depend on."""
    changed = differences(one.engine.model_dump(mode="json"), other.engine.model_dump(mode="json"))
    return all(may_change(f"engine.{key}") for key, *_ in changed)


def _published_alike(one: Recipe, other: Recipe) -> bool:
    sections = ("method", "filters", "held_out", "preferences")
    return (
        all(getattr(one, s) == getattr(other, s) for s in sections)
        and one.train.max_length == other.train.max_length
    )


def _is_alike(source: RunDir, recipe: Recipe, round_: int, name: str) -> bool:
    folder = source.stage(round_, name)
    if source.manifest(folder) is None:
        return False
    stored = fingerprint.stored(folder)
    now = fingerprint.components(
        method_stage(name, recipe),
        sampling=recipe.sampling,
        model=stored["model"],
        inputs=stored["input"],
        seed=recipe.seed,
    )
    return not fingerprint.changed(stored, now)


def _link(source: Path, target: Path) -> None:
    def place(a: str, b: str) -> str:
        if os.path.exists(b):  # a branch that was killed goes on; what is there is whole
            return b
        try:
            os.link(a, b)
        except OSError:  # another file system, or one without links
            shutil.copy2(a, f"{b}.part")
            os.replace(f"{b}.part", b)
        return b

    if source.is_dir():
        shutil.copytree(source, target, copy_function=place, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        place(str(source), str(target))
