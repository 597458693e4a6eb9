"""The run directory: the only state there is, and the one place that knows where things are in it.

run.yaml                       resolved recipe, frozen
tasks/{train,held_out,sets,demonstrations,rejected}/   what was read at the start, frozen (and replay, replay_held_out: general text)
rounds/001/<stage>/            parts, dropped/, failed/, requests/, fingerprint.json, manifest.json
datasets/sft/round-001/        published examples; datasets/dpo/ preference pairs, datasets/turns/ episodes, datasets/cpt/ texts
models/round-001/              trained model (models/round-001-sft/: what it was before DPO, with sft_then_dpo)
evaluation/round-001.json      (and base.json)
branch.json                    of a branch: what it branched from, and the last round that both share
logs/
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.config import Recipe, dump_recipe, stored_recipe
from pipeline.errors import SelfloopError, StaleError
from pipeline.rows import Row
from pipeline.store import files, parts
from pipeline.store.manifest import Manifest, read_manifest

RoundKey = int | str  # a number, or "base" for the untrained model
# Settings that may change between two starts of one run: none of them changes what a row becomes.
_OF_ENDPOINTS = ("api_key_env", "request_timeout", "max_retries", "concurrency", "connect_timeout", "backoff")
MAY_CHANGE = (
    "rounds",
    "runner",
    "evaluate.engine",
    "evaluate.bootstrap",
    "engine.replicas",
    "engine.api_key_env",
    "engine.request_timeout",
    "engine.max_retries",
    "engine.concurrency",
    "engine.connect_timeout",
    "engine.backoff",
    "engine.cpu_cores",
    "engine.cpu_kv_gib",
    "engine.gpus",
    "engine.start_timeout",
    "engine.latency",
    "engine.jitter",
    "engine.fail_share",
    "engine.reject_share",
    "engine.kill_on",
    "train.workers",
    "train.cpus_per_worker",
    "train.gpus_per_worker",
    "train.save_steps",
    "train.micro_batch_size",
    "train.dpo.micro_batch_size",
    "engine.tensor_parallel_size",
    "engine.pipeline_parallel_size",
    "engine.args.max_num_seqs",
    "engine.args.max_num_batched_tokens",
    "engine.args.gpu_memory_utilization",
    "method.environments",
    *(f"method.annotator.{name}" for name in _OF_ENDPOINTS),
)


class RunDir:
    """Paths and readers of one run. Reads nothing until asked."""

    def __init__(self, root: str | Path) -> None:
        fs, name = files.filesystem(str(root))
        self.root = (
            str(Path(name).absolute()) if files.is_local(str(root)) else fs.unstrip_protocol(name)
        )  # as files.glob writes it

    @property
    def local(self) -> Path | None:
        """The run directory as a local path, or None when it is on an object store."""
        return Path(self.root) if files.is_local(self.root) else None

    def path(self, *parts_: str) -> str:
        """Return the path of something in the run."""
        return files.join(self.root, *parts_)

    def stage(self, round_: RoundKey, stage: str) -> str:
        """Return the folder of a stage."""
        return self.path("rounds", round_name(round_), stage)

    def dataset(self, kind: str, round_: int) -> str:
        """Return the folder of a published dataset."""
        return self.path("datasets", kind, f"round-{round_:03d}")

    def model(self, round_: int, part: str = "") -> str:
        """Return the folder of the model trained in a round, or of the one that a `part` of its training ended in."""
        return self.path("models", f"round-{round_:03d}{'-' if part else ''}{part}")

    def evaluation(self, round_: RoundKey) -> str:
        """Return the path of a round's evaluation."""
        return self.path(
            "evaluation", f"{round_}.json" if isinstance(round_, str) else f"round-{round_:03d}.json"
        )

    def exists(self) -> bool:
        """Tell whether a run was started here."""
        return files.exists(self.path("run.yaml"))

    def recipe(self) -> Recipe:
        """Return the frozen recipe. Raises SelfloopError when there is no run here."""
        try:
            return stored_recipe(self.path("run.yaml"))
        except FileNotFoundError:
            raise SelfloopError(
                f"{self.root}: no run here (run.yaml is missing). Start one with: selfloop iterate RECIPE --run {self.root}"
            ) from None

    def branched_from(self) -> int | None:
        """Return the last round that the run has from another one (pipeline.branch), None where all rounds are its own."""
        path = self.path("branch.json")
        return files.read_json(path)["round"] if files.exists(path) else None

    def freeze(self, recipe: Recipe) -> Recipe:
        """Store the recipe, or compare it with the one the run was started with.

        What may change between two starts (MAY_CHANGE) is taken from the new one; any other difference is a StaleError
        that names the keys. Where no stage has begun there is nothing to mix with, and the new one takes the old one's place.
        """
        if not self.exists():
            files.write_bytes(self.path("run.yaml"), dump_recipe(recipe).encode())
            return recipe
        old, new = self.recipe().model_dump(mode="json"), recipe.model_dump(mode="json")
        changed = [d for d in differences(old, new) if not may_change(d[0])]
        if changed and not any(files.exists(self.path(name)) for name in ("rounds", "branch.json")):
            files.remove(self.path("tasks"))  # as the old recipe had them
        elif changed:
            lines = "\n".join(f"  {key}: {a!r} -> {b!r}" for key, a, b in changed)
            raise StaleError(
                f"{self.root} was started with another recipe:\n{lines}\nRows of both must not be mixed. Take another --run directory, set the old values, "
                f"or go on from a round of this run with the new ones: selfloop branch {self.root} --to DIR --round K --set KEY=VALUE"
            )
        files.write_bytes(self.path("run.yaml"), dump_recipe(recipe).encode())
        return recipe

    def manifest(self, folder: str) -> Manifest | None:
        """Return the manifest of a stage's (or task set's) folder, or None when it is not done."""
        return read_manifest(folder)

    def rows(self, folder: str) -> Iterator[Row]:
        """Yield the rows that a done stage passed on; an empty stage passes on those of the stage before it."""
        manifest = self.manifest(folder)
        if manifest is None:
            raise SelfloopError(f"{folder}: this stage is not done yet (no manifest.json).")
        for part in manifest.parts:
            yield from parts.read_rows(self.path(part.path))

    def rejects(self, folder: str, kind: str) -> Iterator[dict[str, Any]]:
        """Yield a stage's `dropped` or `failed` rows as dicts (id, parents, reason, detail, raw, payload as JSON text)."""
        for table in parts.read_tables(files.join(folder, kind)):
            yield from table.to_pylist()

    def tasks(self, which: str) -> str:
        """Return the folder of the frozen `train`, `held_out` or `demonstrations` rows."""
        return self.path("tasks", which)

    def rounds(self) -> list[RoundKey]:
        """Return the rounds there is something of: "base" first, then by number."""
        fs, name = files.filesystem(self.path("rounds"))
        found = [
            p.rstrip("/").rsplit("/", 1)[1] for p in (fs.ls(name, detail=False) if fs.exists(name) else [])
        ]
        keys: list[RoundKey] = [
            int(f) if f.isdigit() else f for f in found if re.fullmatch(r"\d{3,}|base", f)
        ]
        return sorted(keys, key=lambda k: -1 if isinstance(k, str) else k)


def may_change(key: str) -> bool:
    """Tell whether no outcome depends on the setting `key`, dotted, so that it may differ between two starts."""
    return any(key == k or key.startswith(f"{k}.") for k in MAY_CHANGE)


def round_name(round_: RoundKey) -> str:
    """Return how a round is written in paths."""
    return round_ if isinstance(round_, str) else f"{round_:03d}"


def differences(old: Any, new: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """Return (dotted key, old, new) for each leaf in which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            d
            for k in sorted(old.keys() | new.keys())
            for d in differences(old.get(k), new.get(k), f"{key}.{k}" if key else k)
        ]
    return [] if old == new else [(key, old, new)]
