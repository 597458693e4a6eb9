"""Lays out what is pushed, as folders: `dataset`, and `models/round-NNN`."""

import math
import re
import shutil
from pathlib import Path
from typing import Any

from pipeline import overview
from pipeline.errors import SelfloopError
from pipeline.rundir import RunDir
from pipeline.store import files
from stages.sharing.cards import SAMPLES, dataset_card, model_card, shown_recipe

SHARD_BYTES = 500 << 20
WEIGHTS = (".safetensors", ".bin", ".gguf")
# Of a model's folder: what loads it, not what selfloop notes beside it.
LEFT_OUT = re.compile(r"^\.|\.tmp$|^training_args\.bin$|^checkpoint")


def stage_dataset(run: RunDir, target: Path, repo: str, licence: str | None) -> int:
    """Write all published rounds as Parquet files with a card to `target`; return their rows.

    Raises SelfloopError if there are none.
    """
    published = []
    for round_ in (r for r in run.rounds() if isinstance(r, int)):
        for dataset in overview.published(run, round_):
            if dataset["rows"]:  # load_dataset refuses files without rows
                manifest = files.read_json(files.join(dataset["path"], "manifest.json"))
                sample = _parquet(dataset, round_, target)
                published.append({**dataset, "round": round_, "manifest": manifest, "sample": sample})
    if not published:
        raise SelfloopError(f"{run.root}: no round has published a row yet, so there is nothing to push.")
    (target / "cards").mkdir(parents=True)
    for dataset in published:
        card = Path(dataset["path"], "README.md").read_text(encoding="utf-8")
        name = f"{dataset['kind']}-round-{dataset['round']:03d}.md"
        (target / "cards" / name).write_text(_without_matter(card), encoding="utf-8")
    kinds = list(dict.fromkeys(d["kind"] for d in published))
    published.sort(key=lambda d: (kinds.index(d["kind"]), d["round"]))
    card = dataset_card(run, repo, licence, published)
    (target / "README.md").write_text(card, encoding="utf-8")
    (target / "recipe.yaml").write_text(shown_recipe(overview.recipe_of(run)), encoding="utf-8")
    return sum(d["rows"] for d in published)


def stage_models(run: RunDir, target: Path, repo: str, dataset: str | None, licence: str | None) -> list[int]:
    """Put every round's model into `target`/round-NNN, with a card; return the rounds.

    Raises SelfloopError if there are none.
    """
    rounds = [r for r in run.rounds() if isinstance(r, int) and _is_model(Path(run.model(r)))]
    if not rounds:
        raise SelfloopError(f"{run.root}: it has no trained model to push.")
    for round_ in rounds:
        folder, copy = Path(run.model(round_)), target / f"round-{round_:03d}"
        for path in (p for p in folder.rglob("*") if p.is_file()):
            inside = path.relative_to(folder)
            if not any(LEFT_OUT.search(name) for name in inside.parts):
                _place(path, copy / inside)
        card = model_card(run, round_, str(folder), repo, dataset, licence)
        (copy / "README.md").write_text(card, encoding="utf-8")
    return rounds


def _parquet(dataset: dict[str, Any], round_: int, target: Path) -> list[dict[str, Any]]:
    """Write a dataset as Parquet files; return a few of its rows."""
    from datasets import load_from_disk

    rows = load_from_disk(dataset["path"])["train"]
    folder = target / "data" / dataset["kind"] / f"round-{round_:03d}"
    folder.mkdir(parents=True)
    shards = max(1, math.ceil(rows.data.nbytes / SHARD_BYTES))
    for i in range(shards):
        shard = rows.shard(shards, i, contiguous=True)
        shard.to_parquet(str(folder / f"train-{i:05d}-of-{shards:05d}.parquet"))
    return [rows[i * len(rows) // SAMPLES] for i in range(min(SAMPLES, len(rows)))]


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))


def _place(path: Path, target: Path) -> None:
    """Copy a file; weights are linked where the file system allows it, since nobody edits them in place."""
    if path.suffix in WEIGHTS:
        files.link(path, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, target)


def _without_matter(card: str) -> str:
    return re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL).lstrip()
