"""Published datasets: folders that `load_dataset`, `load_from_disk` and TRL can read, written atomically."""

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import orjson
from datasets.arrow_writer import ArrowWriter

from pipeline.errors import DataError
from pipeline.ids import unit_interval
from pipeline.publish.card import CardFacts, card
from pipeline.publish.kinds import SFT, Kind
from pipeline.publish.loss_mask import IGNORED
from pipeline.publish.schema import MANIFEST, MESSAGES, SPLIT, PublishedRow
from pipeline.store.files import atomic_folder, write_json

_BATCH = 500  # rows held as Python objects at a time

datasets.disable_progress_bars()  # a bar for each file written is noise beside the run's own progress


def publish(
    rows: Iterable[PublishedRow], folder: str | Path, facts: CardFacts, seed: int, kind: Kind = SFT
) -> dict[str, Any]:
    """Write `rows` as a dataset folder and return its manifest, which is also stored in it as manifest.json.

    Rows are shuffled in an order that depends on `seed` and the row ids alone. Memory is bounded: rows go
    through a temporary Arrow file. No rows give a valid, empty dataset; load_from_disk and a streaming
    load_dataset read it, but a plain load_dataset refuses any split without rows (datasets 5.2). Raises
    DataError for a row that does not fit the schema, and for a duplicate row id.
    """
    with tempfile.TemporaryDirectory(prefix="selfloop-publish-") as aside:
        spooled, ids = _spool(rows, Path(aside) / "rows.arrow", kind)
        order = sorted(range(len(ids)), key=lambda i: (unit_interval(seed, "publish", ids[i]), ids[i]))
        return write_dataset(spooled.select(order), folder, facts, seed, kind)


def write_dataset(
    dataset: datasets.Dataset, folder: str | Path, facts: CardFacts, seed: int, kind: Kind = SFT
) -> dict[str, Any]:
    """Write a dataset of `kind` with its card and manifest to `folder`; return the manifest.

    `digest` in the manifest is the sha256 of the rows in their order.
    """
    manifest = {
        "schema_version": kind.version,
        "seed": seed,
        "rows": len(dataset),
        **shares(dataset),
        **labels(dataset, kind),
        "tokens": _length_quantiles(dataset, kind),
        "digest": _content_digest(dataset),
        "made_of": facts.made_of,
    }
    with atomic_folder(folder) as aside:
        # By default `datasets` writes no file at all for no rows, and then cannot load the folder.
        shards = None if len(dataset) else {SPLIT: 1}
        datasets.DatasetDict({SPLIT: dataset}).save_to_disk(str(aside), num_shards=shards)
        manifest["bytes"] = sum(file.stat().st_size for file in aside.glob(f"{SPLIT}/*.arrow"))
        (aside / "README.md").write_text(card(facts, manifest, kind), encoding="utf-8")
        write_json(str(aside / MANIFEST), manifest)
    return manifest


def shares(dataset: datasets.Dataset) -> dict[str, Any]:
    """Count the real and the synthetic rows, and those of each round (keys are text, as in JSON)."""
    kinds, rounds = (
        dict(zip(*np.unique(column(dataset, name), return_counts=True), strict=True))
        for name in ("src_kind", "src_round")
    )
    return {
        "real": int(kinds.get("real", 0)),
        "synthetic": int(kinds.get("synthetic", 0)),
        "rounds": {str(number): int(count) for number, count in rounds.items()},
    }


def labels(dataset: datasets.Dataset, kind: Kind) -> dict[str, int]:
    """Count the right and the wrong answers, in a kind that labels them; {} otherwise."""
    if "label" not in kind.flags:
        return {}
    right = int(column(dataset, "label").sum()) if len(dataset) else 0
    return {"right": right, "wrong": len(dataset) - right}


def column(dataset: datasets.Dataset, name: str) -> np.ndarray:
    """Return one flat column as an array without decoding the other columns."""
    table = dataset.select_columns([name]).with_format("arrow")
    parts = [batch[name].to_numpy(zero_copy_only=False) for batch in table.iter(100_000)]
    return np.concatenate(parts) if parts else np.array([], dtype=object)


def whole_lengths(dataset: datasets.Dataset, kind: Kind) -> np.ndarray:
    """Return the tokens that a trainer needs for each row: the context with the longest of its replies."""
    longest = np.maximum.reduce([column(dataset, kind.counts[reply]) for reply in kind.replies])
    return longest + (column(dataset, kind.counts[kind.context]) if kind.context else 0)


def seen_tokens(dataset: datasets.Dataset, kind: Kind) -> int:
    """Return the tokens that a trainer sees in all rows: each reply, with the context before it."""
    replies = sum(int(column(dataset, kind.counts[reply]).sum()) for reply in kind.replies)
    context = int(column(dataset, kind.counts[kind.context]).sum()) if kind.context else 0
    return replies + len(kind.replies) * context


def _spool(rows: Iterable[PublishedRow], path: Path, kind: Kind) -> tuple[datasets.Dataset, list[str]]:
    """Write rows to an Arrow file as they come; return it as a dataset, and the row ids."""
    ids: dict[str, None] = {}
    own = {f"src_{key}": kind.blank[f"src_{key}"] for key in kind.own}
    with ArrowWriter(features=kind.features, path=str(path), writer_batch_size=_BATCH) as writer:
        for given in rows:
            # Rows that are not the method's, such as general conversations, lack its columns.
            row = own | given
            _check(row, kind)
            if row["row_id"] in ids:
                raise DataError(f"row id {row['row_id']!r} occurs twice among the rows to publish.")
            ids[row["row_id"]] = None
            writer.write(row)
        writer.finalize()
    return datasets.Dataset.from_file(str(path)), list(ids)


def _check(row: PublishedRow, kind: Kind) -> None:
    """Raise DataError unless `row` has the columns of its kind, and text where TRL expects text."""
    where = f"row {row.get('row_id', '?')!r}"
    if row.keys() != kind.columns.keys():
        missing, unknown = kind.columns.keys() - row.keys(), row.keys() - kind.columns.keys()
        raise DataError(
            f"{where} does not fit the schema of kind {kind.name}: missing {sorted(missing)}, "
            f"unknown {sorted(unknown)}."
        )
    if row["src_kind"] not in ("real", "synthetic"):
        raise DataError(f"{where}: src_kind is {row['src_kind']!r}; it must be 'real' or 'synthetic'.")
    for part in kind.trained_on:
        if kind.columns[part] == MESSAGES and not _are_messages(row[part]):
            raise DataError(f"{where}: {part} must be one or more {{role, content}} messages of text.")
        if kind.columns[part] == "string" and not str(row[part] or "").strip():
            raise DataError(f"{where}: {part} must be a text, and not blank.")
    if "labels" in kind.columns and all(label == IGNORED for label in row["labels"]):
        raise DataError(
            f"{where}: none of its tokens has loss. Count its tokens before publishing (measure), and set "
            "`loss` for at least one turn."
        )


def _are_messages(value: Any) -> bool:
    # Many chat templates render None as the word "None", and other keys would break the frozen schema.
    return bool(value) and all(
        m.keys() == {"role", "content"} and all(isinstance(text, str) for text in m.values()) for m in value
    )


def _content_digest(dataset: datasets.Dataset) -> str:
    total = hashlib.sha256()
    for row in dataset.with_format(None):
        total.update(orjson.dumps(row, option=orjson.OPT_SORT_KEYS))
    return total.hexdigest()


def _length_quantiles(dataset: datasets.Dataset, kind: Kind) -> dict[str, dict[str, int]]:
    def quantiles(values: np.ndarray) -> dict[str, int]:
        marks = np.percentile(values, [50, 95, 100], method="higher") if len(values) else (0, 0, 0)
        return dict(zip(("p50", "p95", "max"), map(int, marks), strict=True))

    parts = {part: column(dataset, name) for part, name in kind.counts.items()}
    return {part: quantiles(v) for part, v in (parts | {"whole": whole_lengths(dataset, kind)}).items()}
