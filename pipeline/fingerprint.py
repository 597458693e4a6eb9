"""What a stage's output depends on. Stored when the stage starts; if it differs later, the run stops and says where."""

from typing import Any

import orjson

from pipeline import prompts
from pipeline.errors import StaleError
from pipeline.ids import digest
from pipeline.methods import Stage
from pipeline.rundir import differences
from pipeline.store import files

# Left out on purpose, because they do not change what a row becomes: engine replicas and sizes, timeouts, retries,
# concurrency, part sizes, worker counts, Ray addresses, display.

MADE = (
    "manifest.json",
    "part-*.arrow",
    "rows/part-*.arrow",
    "requests/*.jsonl",
)  # what a stage leaves beside its fingerprint, which comes first


def components(stage: Stage, *, sampling: Any, model: str, inputs: str, seed: int) -> dict[str, Any]:
    """Return the parts of a stage's fingerprint, each one named, so that a difference can be named too."""
    return {
        "code version": stage.version,
        "prompts": {p: digest(prompts.source(p)) for p in stage.prompts},
        "config": stage.config,
        "sampling": sampling.model_dump(mode="json") if stage.prompts else None,
        "model": model if stage.prompts else None,
        "input": inputs,
        "seed": seed,
    }


def check(folder: str, parts: dict[str, Any]) -> str:
    """Store the fingerprint of a stage that begins, or compare it with the stored one. Returns its digest.

    Raises StaleError naming what differs.
    """
    path = _path(folder)
    if not files.exists(path):
        if left := [name for pattern in MADE for name in files.glob(folder, pattern)]:
            raise StaleError(
                f"{folder} is half removed: its fingerprint.json is gone, and {left[0]} is still there. Remove the rest of that folder too."
            )
        files.write_json(path, _as_read(parts))
        return digest(stored(folder))
    before = stored(folder)
    if found := changed(before, parts):
        lines = "\n".join(f"  {key}: {_short(a)} -> {_short(b)}" for key, a, b in found)
        raise StaleError(
            f"{folder} holds rows that were made with other inputs:\n{lines}\n"
            "Old and new rows are not mixed. Remove that folder (and the stages after it) to make them again, or take a new run directory."
        )
    return digest(before)


def stored(folder: str) -> dict[str, Any]:
    """Return the fingerprint of a stage that has begun."""
    return files.read_json(_path(folder))


def changed(before: dict[str, Any], parts: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (key, stored value, value now) of every difference."""
    return differences(before, _as_read(parts))


def _path(folder: str) -> str:
    return files.join(folder, "fingerprint.json")


def _as_read(parts: dict[str, Any]) -> dict[str, Any]:
    return orjson.loads(
        orjson.dumps(parts, option=orjson.OPT_NON_STR_KEYS)
    )  # a tuple is read back as a list: not a difference


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."
