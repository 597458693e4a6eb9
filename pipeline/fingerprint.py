"""What a stage's output depends on: stored when the stage starts, compared whenever it is run again."""

from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.config import Recipe
from pipeline.errors import StaleError
from pipeline.ids import digest
from pipeline.prompts import Prompts
from pipeline.rundir import differences
from pipeline.stage import Stage
from pipeline.store import files

# What a stage leaves beside its fingerprint, which is written first.
OUTPUT = ("manifest.json", "part-*.arrow", "rows/part-*.arrow", "requests/*.jsonl")


def components(
    stage: Stage, recipe: Recipe, *, model: str, inputs: str, seats: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the parts of a stage's fingerprint by name, so that a difference can be named too.

    `seats` are the models at the stage's seats.

    Left out on purpose, since they do not change what a row becomes: engine replicas and sizes, timeouts,
    retries, concurrency, part sizes, worker counts, Ray addresses, display.
    """
    prompts = Prompts.of(recipe)
    return {
        "code version": stage.version,
        "prompts": {name: digest(prompts.source(name)) for name in stage.prompts},
        "config": stage.config,
        "sampling": recipe.sampling.model_dump(mode="json") if stage.prompts else None,
        "model": model if stage.prompts else None,
        "input": inputs,
        "seed": recipe.seed,
        **({"models": dict(seats)} if seats else {}),
    }


def check(folder: str, parts: dict[str, Any]) -> str:
    """Store the fingerprint of a stage that starts, or compare it with the stored one. Return its digest.

    Raises StaleError naming what differs.
    """
    path = _path(folder)
    if not files.exists(path):
        if left := [name for pattern in OUTPUT for name in files.glob(folder, pattern)]:
            raise StaleError(
                f"{folder}: fingerprint.json is missing, but {left[0]} exists. Somebody removed part of this "
                "folder: remove all of it."
            )
        files.write_json(path, _as_read(parts))
        return digest(stored(folder))
    before = stored(folder)
    if differing := changed(before, parts):
        lines = "\n".join(f"  {key}: {_short(a)} -> {_short(b)}" for key, a, b in differing)
        raise StaleError(
            f"{folder} holds rows that were made with other inputs:\n{lines}\n"
            "Old and new rows are never mixed. Remove this folder and those of the later stages to redo "
            "them, or use a new run directory."
        )
    return digest(before)


def stored(folder: str) -> dict[str, Any]:
    """Return the fingerprint of a stage that has started."""
    return files.read_json(_path(folder))


def changed(before: dict[str, Any], parts: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (key, stored value, current value) of every difference."""
    return differences(before, _as_read(parts))


def _path(folder: str) -> str:
    return files.join(folder, "fingerprint.json")


def _as_read(parts: dict[str, Any]) -> dict[str, Any]:
    return orjson.loads(orjson.dumps(parts, option=orjson.OPT_NON_STR_KEYS))  # tuples come back as lists


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."
