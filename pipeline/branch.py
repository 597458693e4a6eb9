"""A new run that begins where another one is: for arms that differ only in what comes later."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.config import Recipe
from pipeline.errors import SelfloopError
from pipeline.methods import PROPOSE, STAGES
from pipeline.rundir import RunDir, round_name
from pipeline.store import files
from pipeline.store.lock import RunLock


def branch(source: RunDir, target: RunDir, recipe: Recipe, round_: int) -> None:
    """Make `target` a run with `recipe` that has `source`'s rounds up to `round_`, and the rows of the round after it.

    Those rows were made by the model of `round_`, so both runs would make them alike; the models that learn from them are
    what differs. Files are linked, not copied, where the file system can: none of them is ever written again. Raises
    SelfloopError when `source` is not that far, or `target` exists. What the changed settings do concern is found out later
    by the fingerprints: such a stage stops as stale.
    """
    if source.local is None or target.local is None:
        raise SelfloopError("branch: both runs must be on a mounted file system.")
    if target.exists():
        raise SelfloopError(f"{target.root}: there is a run here already; a branch needs a new directory.")
    if not files.exists(source.evaluation(round_)):
        raise SelfloopError(f"{source.root}: round {round_} is not evaluated yet, so nothing can be branched from it.")
    with RunLock(target.local):
        for path in _shared(source, round_):
            _link(path, target.local / path.relative_to(source.local))
        target.freeze(recipe)  # last: only now it is a run


def _shared(source: RunDir, round_: int) -> Iterator[Path]:
    """Yield the folders and files that a branch after `round_` shares with its source."""
    root, names = source.local, ["base", *(round_name(r) for r in range(round_ + 1))]
    yield from (root / part for part in ("tasks", *(f"rounds/{n}" for n in names)) if (root / part).exists())
    for r in range(round_ + 1):
        yield from (p for p in (Path(source.model(r)), Path(source.model(r, "sft")), Path(source.evaluation(r))) if p.exists())
    if (base := Path(source.evaluation("base"))).exists():
        yield base
    for stage in (PROPOSE, *STAGES, "publish", "pairs"):
        folder = source.stage(round_ + 1, stage)
        if source.manifest(folder) is not None:
            yield Path(folder)
    for datasets in (root / "datasets").iterdir():
        done = source.manifest(source.stage(round_ + 1, "publish")) is not None
        yield from (p for r in range(round_ + 1 + done) if (p := datasets / f"round-{r:03d}").exists())


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
