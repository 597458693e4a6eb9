"""Taking over what another run has finished, where this run would make the very same: arms of a comparison
share their beginnings, and whatever else is alike.

A stage is the same if its fingerprint is, a training if its inputs are (training/spec.py). Files are
hard-linked where the file system allows it, since none of them is ever written again. A folder that is taken
over appears at once, by a rename, and names its source in taken_over.json.
"""

from pathlib import Path
from typing import Any

from pipeline import fingerprint
from pipeline.config import Recipe
from pipeline.console import progress as console
from pipeline.display import round_title
from pipeline.rundir import RunDir, differences, may_change
from pipeline.stage import LABELS, PAIRS, PUBLISH
from pipeline.store import files

MARK = "taken_over.json"  # in a folder that was taken over: {"from": the other run}
# Read from shared rows, these are the same again in a second; their datasets carry the run's own name.
_OWN = (PUBLISH, PAIRS, LABELS)
_TASKS = ("tasks", "demonstrations", "held_out", "answer_marks", "prompts", "seed")


def take_over_stage(run: RunDir, folder: str, name: str, parts: dict[str, Any], recipe: Recipe) -> bool:
    """Make a twin's finished stage that of `run`, if it has the fingerprint `parts`. Tell whether one had.

    A stage that has begun here goes on here. Empty stages, which only pass rows through, are not taken over.
    """
    if not run.twins or name in _OWN or files.exists(folder):
        return False
    for twin in run.twins:
        other = twin.root + folder.removeprefix(run.root)
        manifest = twin.manifest(other)
        if manifest is None or manifest.passes_through:
            continue
        same = not fingerprint.changed(fingerprint.stored(other), parts)
        if same and _engines_alike(twin.recipe(), recipe):
            console.print(f"{round_title(manifest.round)}, {name}: the same as in {twin.root}", markup=False)
            _take(Path(other), Path(folder), twin)
            return True
    return False


def take_over_training(run: RunDir, work: str, out: str, inputs: dict[str, Any]) -> bool:
    """Make a twin's finished training that of `run`, if it was made from `inputs`. Tell whether one was.

    `work` and `out` are the folders of the training and of its model in `run`.
    """
    if not run.twins or files.exists(files.join(work, "spec.json")):
        return False
    for twin in run.twins:
        other, model = (twin.root + path.removeprefix(run.root) for path in (work, out))
        done = files.exists(files.join(other, "train.json")) and files.exists(model)
        if done and not differences(files.read_json(files.join(other, "spec.json")), inputs):
            if not files.exists(out):  # first, as train.json in `work` says that the model is there
                _take(Path(model), Path(out), None)
            _take(Path(other), Path(work), twin)
            return True
    return False


def take_over_tasks(run: RunDir, recipe: Recipe) -> bool:
    """Make a twin's frozen tasks those of `run`, if both recipes read the same. Tell whether one's were."""
    if not run.twins or run.manifest(run.path("tasks")) is not None:
        return False
    own = _read_from(recipe)
    for twin in run.twins:
        frozen = twin.exists() and twin.manifest(twin.path("tasks")) is not None
        if frozen and _read_from(twin.recipe()) == own:
            _take(Path(twin.path("tasks")), Path(run.path("tasks")), None)
            return True
    return False


def taken_over(folder: str) -> bool:
    """Tell whether the folder of a stage or training was taken over from another run."""
    return files.exists(files.join(folder, MARK))


def _take(source: Path, target: Path, twin: RunDir | None) -> None:
    with files.atomic_folder(target) as aside:
        files.link(source, aside)
        if twin is not None:
            files.write_json(str(aside / MARK), {"from": twin.root})


def _read_from(recipe: Recipe) -> dict[str, Any]:
    """Return what the folders below tasks/ depend on."""
    cpt = recipe.train.cpt
    replay = recipe.train.kind == "cpt" and cpt.model_dump(mode="json", include={"replay", "replay_held_out"})
    sets = {name: source.model_dump(mode="json") for name, source in recipe.evaluate.sets.items()}
    return recipe.model_dump(mode="json", include=set(_TASKS)) | {"sets": sets, "replay": replay}


def _engines_alike(one: Recipe, other: Recipe) -> bool:
    """Tell whether engines, and how the model is asked, differ in nothing that answers depend on."""
    sections: Any = {"model": True, "engine": True, "evaluate": {"engine"}}
    old, new = (recipe.model_dump(mode="json", include=sections) for recipe in (one, other))
    changed = [key for key, *_ in differences(old, new)]
    return all(key.startswith("engine.") and may_change(key, other) for key in changed)
