"""A new run that begins where another one is: for arms that differ only in what comes later."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline import fingerprint
from pipeline.config import Recipe
from pipeline.errors import SelfloopError
from pipeline.methods import PROPOSE, STAGES, method_stage
from pipeline.rundir import RunDir, round_name
from pipeline.store import files
from pipeline.store.lock import RunLock


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
    untrained = round_ == 0 and source.recipe().demonstrations is None  # there is no round 0: what the run starts from is the base model
    if not (untrained or files.exists(source.evaluation(round_))):
        raise SelfloopError(f"{source.root}: round {round_} is not evaluated yet, so nothing can be branched from it.")
    with RunLock(target.local):
        for path in _shared(source, recipe, round_):
            _link(path, target.local / path.relative_to(source.local))
        files.write_json(target.path("branch.json"), {"source": source.root, "round": round_})
        target.freeze(recipe)  # last: only now it is a run


def _shared(source: RunDir, recipe: Recipe, round_: int) -> Iterator[Path]:
    """Yield the folders and files that a branch with `recipe` after `round_` shares with its source."""
    root, names = source.local, ["base", *(round_name(r) for r in range(round_ + 1))]
    yield from (root / part for part in ("tasks", *(f"rounds/{n}" for n in names)) if (root / part).exists())
    for r in range(round_ + 1):
        yield from (p for p in (Path(source.model(r)), Path(source.model(r, "sft")), Path(source.evaluation(r))) if p.exists())
    if (base := Path(source.evaluation("base"))).exists():
        yield base
    made = _made_alike(source, recipe, round_ + 1)
    yield from (Path(source.stage(round_ + 1, stage)) for stage in made)
    for datasets in (root / "datasets").iterdir():
        yield from (p for r in range(round_ + 1 + ("publish" in made)) if (p := datasets / f"round-{r:03d}").exists())


def _made_alike(source: RunDir, recipe: Recipe, round_: int) -> list[str]:
    """Return the finished stages of a round that `recipe` would make alike: none after one that is configured otherwise."""
    alike = 0
    while alike < len(STAGES) and _is_alike(source, recipe, round_, STAGES[alike]):
        alike += 1
    published = ["publish", "pairs"] if alike == len(STAGES) and _published_alike(source.recipe(), recipe) else []
    names = [*([PROPOSE] if alike else []), *STAGES[:alike], *published]
    return [name for name in names if source.manifest(source.stage(round_, name)) is not None]


def _published_alike(one: Recipe, other: Recipe) -> bool:
    sections = ("method", "filters", "held_out", "preferences")
    return all(getattr(one, s) == getattr(other, s) for s in sections) and one.train.max_length == other.train.max_length


def _is_alike(source: RunDir, recipe: Recipe, round_: int, name: str) -> bool:
    folder = source.stage(round_, name)
    if source.manifest(folder) is None:
        return False
    stored = fingerprint.stored(folder)
    now = fingerprint.components(
        method_stage(name, recipe), sampling=recipe.sampling, model=stored["model"], inputs=stored["input"], seed=recipe.seed
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
