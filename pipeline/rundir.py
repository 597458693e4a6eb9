"""The run directory: the only state there is, and the one place that knows where things are in it.

run.yaml                    resolved recipe, frozen
tasks/<set>/                tasks as read at the start, frozen: train, held_out, sets, demonstrations,
                            rejected, replay, replay_held_out
rounds/001/<stage>/         parts, dropped/, failed/, requests/, fingerprint.json, manifest.json
datasets/<kind>/round-001/  published data: sft (examples), dpo (pairs), turns (episodes), cpt (texts)
models/round-001/           trained model (round-001-sft: between the two halves of sft_then_dpo)
evaluation/round-001.json   (and base.json)
error.json                  what ended the last start, if an error did
branch.json                 in a branch: its source, and the last round that both share
report.html                 the run as a page, written after every round
reverify.json               in a run that judges another one's answers again: that run, and the rounds
tracking/                   what trackers were told, and TensorBoard's event files
logs/
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.config import Recipe, dump_recipe, stored_recipe
from pipeline.errors import SelfloopError, StaleError
from pipeline.methods import method_class
from pipeline.rows import Row
from pipeline.store import files, parts
from pipeline.store.manifest import Manifest, read_manifest

RoundKey = int | str  # a number, or "base" for the untrained model
# Settings that may differ between two starts of one run, since none of them changes what a row becomes.
# Engine sections and methods add their own (EngineSection.may_change, Method.may_change).
MAY_CHANGE = (
    *("rounds", "runner", "track", "evaluate.engine", "evaluate.bootstrap"),
    *("train.workers", "train.shard", "train.attention", "train.gradient_checkpointing", "train.liger"),
    *("train.cpus_per_worker", "train.gpus_per_worker", "train.save_steps"),
    *(
        "train.micro_batch_tokens",
        "train.micro_batch_size",
        "train.dpo.micro_batch_size",
        "train.kto.micro_batch_size",
    ),
)


class RunDir:
    """Paths and readers of one run. Reads nothing until asked.

    `twins` are runs whose finished work this one takes over where it would be the same (pipeline.sharing).
    """

    def __init__(self, root: str | Path, twins: Sequence["RunDir"] = ()) -> None:
        self.twins = tuple(twins)
        fs, name = files.filesystem(str(root))
        local = files.is_local(str(root))
        self.root = (
            str(Path(name).absolute()) if local else fs.unstrip_protocol(name)
        )  # as files.glob writes it

    @property
    def local(self) -> Path | None:
        """The run directory as a local path, or None when it is on an object store."""
        return Path(self.root) if files.is_local(self.root) else None

    def path(self, *names: str) -> str:
        """Return the path of something in the run."""
        return files.join(self.root, *names)

    def stage(self, round_: RoundKey, stage: str) -> str:
        """Return the folder of a stage."""
        return self.path("rounds", round_name(round_), stage)

    def dataset(self, kind: str, round_: int) -> str:
        """Return the folder of a published dataset."""
        return self.path("datasets", kind, f"round-{round_:03d}")

    def model(self, round_: int, part: str = "") -> str:
        """Return the folder of a round's model, or of the one that a `part` of its training ended in."""
        return self.path("models", f"round-{round_:03d}{'-' if part else ''}{part}")

    def evaluation(self, round_: RoundKey) -> str:
        """Return the path of a round's evaluation."""
        return self.path(
            "evaluation", f"{round_}.json" if isinstance(round_, str) else f"round-{round_:03d}.json"
        )

    def tasks(self, which: str) -> str:
        """Return the folder of a frozen task set: `train`, `held_out`, `demonstrations`, ..."""
        return self.path("tasks", which)

    def exists(self) -> bool:
        """Tell whether a run was started here."""
        return files.exists(self.path("run.yaml"))

    def recipe(self) -> Recipe:
        """Return the frozen recipe.

        Raises SelfloopError when there is no run here, DamagedError when it cannot be read.
        """
        try:
            return stored_recipe(self.path("run.yaml"))
        except FileNotFoundError:
            raise SelfloopError(
                f"{self.root}: no run here (run.yaml is missing). Start one with: selfloop iterate RECIPE "
                f"--run {self.root}"
            ) from None

    def branched_from(self) -> int | None:
        """Return the last round that a branch shares with its source, None in a run that is no branch."""
        path = self.path("branch.json")
        return files.read_json(path)["round"] if files.exists(path) else None

    def freeze(self, recipe: Recipe) -> Recipe:
        """Store the recipe, or compare it with the one the run was started with.

        Settings that may change (`may_change`) take their new value; any other difference is a StaleError
        that names the keys. As long as no stage has started, the new recipe simply replaces the old one.
        """
        if self.exists():
            old, new = self.recipe().model_dump(mode="json"), recipe.model_dump(mode="json")
            changed = [d for d in differences(old, new) if not may_change(d[0], recipe)]
            if changed and any(files.exists(self.path(name)) for name in ("rounds", "branch.json")):
                lines = "\n".join(f"  {key}: {a!r:.200} -> {b!r:.200}" for key, a, b in changed)
                raise StaleError(
                    f"{self.root} was started with another recipe:\n{lines}\nRows of both must not be mixed. "
                    "Use another --run "
                    "directory, restore the old values, or continue from one "
                    "of this run's rounds with the new ones: "
                    f"selfloop branch {self.root} --to DIR --round K --set KEY=VALUE"
                )
            if changed:
                files.remove(self.path("tasks"))  # as the old recipe read them
        files.write_bytes(self.path("run.yaml"), dump_recipe(recipe).encode())
        return recipe

    def manifest(self, folder: str) -> Manifest | None:
        """Return the manifest in the folder of a stage or task set, or None when it is not done."""
        return read_manifest(folder)

    def rows(self, folder: str) -> Iterator[Row]:
        """Yield the rows that a finished stage passed on; an empty stage passes on those of the stage before
        it.
        """
        for path in self._parts(folder):
            yield from parts.read_rows(path)

    def ids(self, folder: str) -> pa.ChunkedArray:
        """Return the ids of the rows that a finished stage passed on, in their order."""
        chunks = [chunk for path in self._parts(folder) for chunk in parts.read_ids(path)]
        return pa.chunked_array(chunks, pa.string())

    def _parts(self, folder: str) -> list[str]:
        manifest = self.manifest(folder)
        if manifest is None:
            raise SelfloopError(f"{folder}: this stage is not done yet (no manifest.json).")
        return [self.path(part.path) for part in manifest.parts]

    def rejects(self, folder: str, kind: str) -> Iterator[dict[str, Any]]:
        """Yield a stage's `dropped` or `failed` rows as dicts (id, parents, reason, detail, raw, payload as
        JSON text).
        """
        for table in parts.read_tables(files.join(folder, kind)):
            yield from table.to_pylist()

    def rounds(self) -> list[RoundKey]:
        """Return the rounds that exist: "base" first, then by number."""
        fs, folder = files.filesystem(self.path("rounds"))
        names = [
            p.rstrip("/").rsplit("/", 1)[1]
            for p in (fs.ls(folder, detail=False) if fs.exists(folder) else [])
        ]
        keys: list[RoundKey] = [
            int(n) if n.isdigit() else n for n in names if re.fullmatch(r"\d{3,}|base", n)
        ]
        return sorted(keys, key=lambda k: -1 if isinstance(k, str) else k)


def may_change(key: str, recipe: Recipe) -> bool:
    """Tell whether a setting (its dotted key) may differ between two starts, as no outcome depends on it."""
    method = method_class(recipe)
    options = method.Options.model_validate(recipe.method)
    sections = {}
    for option in method.engine_options:
        held = getattr(options, option)
        inner = hasattr(held, "engine")  # another model with an engine of its own
        sections[f"method.{option}.engine" if inner else f"method.{option}"] = held.engine if inner else held
    sections["engine"] = recipe.engine
    for name, verifier in (("verifier", recipe.verifier), ("evaluate.verifier", recipe.evaluate.verifier)):
        sections[f"{name}.engine"] = getattr(verifier, "engine", None)  # a name has none
    allowed = [*MAY_CHANGE, *(f"method.{option}" for option in method.may_change)]
    allowed += [f"train.{kind}" for kind in ("dpo", "kto") if kind != recipe.train.preference]
    allowed += [
        f"{name}.{key}" for name, section in sections.items() if section for key in section.may_change
    ]
    return any(key == k or key.startswith(f"{k}.") for k in allowed)


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
