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
    parts = orjson.loads(orjson.dumps(parts, option=orjson.OPT_NON_STR_KEYS))  # a tuple is read back as a list: not a difference
    path = files.join(folder, "fingerprint.json")
    if not files.exists(path):
        files.write_json(path, parts)
        return digest(files.read_json(path))
    stored = files.read_json(path)
    changed = differences(stored, parts)
    if changed:
        lines = "\n".join(f"  {key}: {_short(a)} -> {_short(b)}" for key, a, b in changed)
        raise StaleError(
            f"{folder} holds rows that were made with other inputs:\n{lines}\n"
            "Old and new rows are not mixed. Remove that folder (and the stages after it) to make them again, or take a new run directory."
        )
    return digest(stored)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."
