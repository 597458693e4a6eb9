"""Published datasets: folders that `load_dataset`, `load_from_disk` and TRL can read, written atomically."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import orjson
import pyarrow as pa

from pipeline.errors import DataError
from pipeline.garbage import rarely_collected
from pipeline.ids import unit_interval
from pipeline.publish.card import CardFacts, card
from pipeline.publish.kinds import SFT, Kind
from pipeline.publish.loss_mask import IGNORED
from pipeline.publish.schema import MANIFEST, MESSAGES, SPLIT, PublishedRow
from pipeline.publish.shuffled import shuffled
from pipeline.store.files import atomic_folder, write_json

_BATCH = 500  # rows held as Python objects at a time
_COLUMN_BATCH = 10_000  # values of one column; of a selection each is a batch of its own

datasets.disable_progress_bars()  # a bar for each file written is noise beside the run's own progress


def publish(
    rows: Iterable[PublishedRow],
    folder: str | Path,
    facts: CardFacts | Callable[[], CardFacts],
    seed: int,
    kind: Kind = SFT,
) -> dict[str, Any]:
    """Write `rows` as a dataset folder and return its manifest, which is also stored in it as manifest.json.

    Rows are shuffled in an order that depends on `seed` and the row ids alone. `facts` may be a function,
    which is called once all rows have been read. Memory is bounded: rows go through temporary Arrow files. No
    rows give a valid, empty dataset; load_from_disk and a streaming load_dataset read it, but a plain
    load_dataset refuses any split without rows (datasets 5.2). Raises DataError for a row that does not fit
    the schema, and for a duplicate row id.
    """
    with tempfile.TemporaryDirectory(prefix="selfloop-publish-") as aside:
        path, schema = f"{aside}/rows.arrow", kind.features.arrow_schema
        place = partial(unit_interval, seed, "publish")
        with rarely_collected(), pa.ipc.new_stream(path, schema) as writer:
            for table in shuffled(_checked(rows, kind, schema), place, Path(aside)):
                writer.write_table(table)
        found = facts() if callable(facts) else facts
        return write_dataset(datasets.Dataset.from_file(path), folder, found, seed, kind)


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
    kinds, rounds = _value_counts(dataset, "src_kind"), _value_counts(dataset, "src_round")
    return {
        "real": kinds["real"],
        "synthetic": kinds["synthetic"],
        "rounds": {str(number): count for number, count in sorted(rounds.items())},
    }


def labels(dataset: datasets.Dataset, kind: Kind) -> dict[str, int]:
    """Count the right and the wrong answers, in a kind that labels them; {} otherwise."""
    if "label" not in kind.flags:
        return {}
    right = _value_counts(dataset, "label")[True]
    return {"right": right, "wrong": len(dataset) - right}


def column(dataset: datasets.Dataset, name: str) -> np.ndarray:
    """Return one flat column as an array without decoding the other columns."""
    return arrow_column(dataset, name).to_numpy()


def arrow_column(dataset: datasets.Dataset, name: str) -> pa.ChunkedArray:
    """Return one column as Arrow has it: texts take the bytes that they are written in."""
    table = dataset.select_columns([name]).with_format("arrow")
    chunks = [batch[name].combine_chunks() for batch in table.iter(_COLUMN_BATCH)]
    return pa.chunked_array(chunks, dataset.features.arrow_schema.field(name).type)


def whole_lengths(dataset: datasets.Dataset, kind: Kind) -> np.ndarray:
    """Return the tokens that a trainer needs for each row: the context with the longest of its replies."""
    longest = np.maximum.reduce([column(dataset, kind.counts[reply]) for reply in kind.replies])
    return longest + (column(dataset, kind.counts[kind.context]) if kind.context else 0)


def seen_tokens(dataset: datasets.Dataset, kind: Kind) -> int:
    """Return the tokens that a trainer sees in all rows: each reply, with the context before it."""
    replies = sum(int(column(dataset, kind.counts[reply]).sum()) for reply in kind.replies)
    context = int(column(dataset, kind.counts[kind.context]).sum()) if kind.context else 0
    return replies + len(kind.replies) * context


def _checked(rows: Iterable[PublishedRow], kind: Kind, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    own = {f"src_{key}": kind.blank[f"src_{key}"] for key in kind.own}
    left = iter(rows)
    while batch := list(islice(left, _BATCH)):
        # Rows that are not the method's, such as general conversations, lack its columns.
        whole = [own | given for given in batch] if own else batch
        for row in whole:
            _check(row, kind)
        yield pa.RecordBatch.from_pylist(whole, schema=schema)


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
    for table in dataset.with_format("arrow").iter(_BATCH):
        for row in table.to_pylist():
            total.update(orjson.dumps(row, option=orjson.OPT_SORT_KEYS))
    return total.hexdigest()


def _value_counts(dataset: datasets.Dataset, name: str) -> Counter[Any]:
    total: Counter[Any] = Counter()
    for table in dataset.select_columns([name]).with_format("arrow").iter(_COLUMN_BATCH):
        for found in table[name].value_counts().to_pylist():
            total[found["values"]] += found["counts"]
    return total


def _length_quantiles(dataset: datasets.Dataset, kind: Kind) -> dict[str, dict[str, int]]:
    lengths: dict[str, Counter[int]] = {part: Counter() for part in (*kind.counts, "whole")}
    counts = dataset.select_columns(list(kind.counts.values())).with_format("arrow")
    for table in counts.iter(_COLUMN_BATCH):
        values = {part: table[name].to_numpy() for part, name in kind.counts.items()}
        longest = np.maximum.reduce([values[reply] for reply in kind.replies])
        values["whole"] = longest + (values[kind.context] if kind.context else 0)
        for part, of_rows in values.items():
            found = zip(*(a.tolist() for a in np.unique(of_rows, return_counts=True)), strict=True)
            lengths[part].update(dict(found))
    return {part: _quantiles(of_rows) for part, of_rows in lengths.items()}


def _quantiles(lengths: Counter[int]) -> dict[str, int]:
    """Return quantiles of lengths, given how many rows have each; of two neighbours the higher one."""
    if not lengths:
        return dict.fromkeys(("p50", "p95", "max"), 0)
    values = sorted(lengths)
    up_to = np.cumsum([lengths[value] for value in values])
    places = np.ceil((up_to[-1] - 1) * np.array([0.5, 0.95, 1.0]))
    marks = np.searchsorted(up_to, places, side="right")
    return dict(zip(("p50", "p95", "max"), (values[i] for i in marks), strict=True))
