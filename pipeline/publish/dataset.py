"""Published datasets: folders that `load_dataset`, `load_from_disk` and TRL read, written whole or not at all."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import orjson
from datasets.arrow_writer import ArrowWriter

from pipeline.engines.base import Message
from pipeline.errors import DataError
from pipeline.ids import unit_interval
from pipeline.publish.card import CardFacts, card
from pipeline.publish.corpus import TextRow
from pipeline.publish.kinds import SFT, Kind
from pipeline.publish.preference import PairRow
from pipeline.publish.schema import MESSAGES, PublishedRow
from pipeline.publish.turns import IGNORED, TurnRow
from pipeline.store.files import atomic_folder, write_json

MANIFEST = "manifest.json"
SPLIT = "train"
_BATCH = 500  # rows held as Python objects at a time

AnyRow = PublishedRow | PairRow | TurnRow | TextRow

datasets.disable_progress_bars()  # a bar for each file written is noise beside the run's own progress


def publish(
    rows: Iterable[AnyRow], folder: str | Path, facts: CardFacts, seed: int, kind: Kind = SFT
) -> dict[str, Any]:
    """Write `rows` as a dataset folder of a kind and return its manifest, which lies in it as manifest.json.

    The order is a shuffle that depends on `seed` and the row ids alone. Memory is bounded: rows go through a temporary
    Arrow file. `digest` in the manifest is the sha256 of the rows in their order. No rows give a valid, empty dataset, which
    load_from_disk and a streaming load_dataset read; a plain load_dataset refuses any split without rows (datasets 5.2).
    Raises DataError for a row that does not fit the schema, and for a row id that occurs twice.
    """
    folder = Path(folder)
    with tempfile.TemporaryDirectory(prefix="selfloop-publish-") as aside:
        arrived, ids = _spool(rows, Path(aside) / "rows.arrow", kind)
        order = sorted(range(len(ids)), key=lambda i: (unit_interval(seed, "publish", ids[i]), ids[i]))
        return write_dataset(arrived.select(order), folder, facts, seed, kind)


def write_dataset(
    dataset: datasets.Dataset, folder: str | Path, facts: CardFacts, seed: int, kind: Kind = SFT
) -> dict[str, Any]:
    """Write a dataset in the kind's features, in the order it has, as a folder with its card and manifest; return the manifest."""
    manifest = {"schema_version": kind.version, "seed": seed, "rows": len(dataset), **shares(dataset)}
    manifest |= {
        "tokens": _token_facts(dataset, kind),
        "digest": _content_digest(dataset),
        "made_of": facts.made_of,
    }
    with atomic_folder(folder) as aside:
        # Left alone, `datasets` writes no file at all for no rows, and then cannot load the folder.
        shards = None if len(dataset) else {SPLIT: 1}
        datasets.DatasetDict({SPLIT: dataset}).save_to_disk(str(aside), num_shards=shards)
        manifest["bytes"] = sum(file.stat().st_size for file in aside.glob(f"{SPLIT}/*.arrow"))
        (aside / "README.md").write_text(card(facts, manifest, kind), encoding="utf-8")
        write_json(str(aside / MANIFEST), manifest)
    return manifest


def shares(dataset: datasets.Dataset) -> dict[str, Any]:
    """Return how many rows are real, how many synthetic, and how many come from each round (keys are text, as in JSON)."""
    kinds = dict(zip(*np.unique(column(dataset, "src_kind"), return_counts=True), strict=True))
    rounds = zip(*np.unique(column(dataset, "src_round"), return_counts=True), strict=True)
    return {
        "real": int(kinds.get("real", 0)),
        "synthetic": int(kinds.get("synthetic", 0)),
        "rounds": {str(number): int(count) for number, count in rounds},
    }


def column(dataset: datasets.Dataset, name: str) -> np.ndarray:
    """Return one flat column as an array, without making the other columns' Python objects."""
    table = dataset.select_columns([name]).with_format("arrow")
    parts = [batch[name].to_numpy(zero_copy_only=False) for batch in table.iter(100_000)]
    return np.concatenate(parts) if parts else np.array([], dtype=object)


def measure(rows: Iterable[AnyRow], tokenizer: Any, kind: Kind = SFT) -> Iterator[AnyRow]:
    """Yield the rows with their token counts (and token ids, where the kind has them) filled in."""
    for row in rows:
        yield {**row, **row_tokens(tokenizer, row, kind)}


def row_tokens(tokenizer: Any, row: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """Return a row's token counts by column, with the columns of token ids of a kind that has them."""
    if kind.tokens is not None:
        return kind.tokens(tokenizer, row)
    return joint_tokens(
        {reply: token_lengths(tokenizer, row["prompt"], row[reply]) for reply in kind.replies}
    )


def joint_tokens(lengths: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Return token counts by column from each reply's `token_lengths`: what all replies share with the prompt is the prompt, as in TRL."""
    prompt = min(start for start, _ in lengths.values())
    return {
        "tokens_prompt": prompt,
        **{f"tokens_{reply}": start + rest - prompt for reply, (start, rest) in lengths.items()},
    }


def whole_lengths(dataset: datasets.Dataset, kind: Kind) -> np.ndarray:
    """Return the tokens of each row as a trainer has to fit them: the prompt with the longest of its replies."""
    parts = [column(dataset, f"tokens_{reply}") for reply in kind.replies]
    return np.maximum.reduce(parts) + (column(dataset, f"tokens_{kind.context}") if kind.context else 0)


def token_lengths(tokenizer: Any, prompt: list[Message], completion: list[Message]) -> tuple[int, int]:
    """Return the tokens of prompt and completion as TRL's trainers split them: the loss falls on the second.

    `tokenizer` has a chat template. The completion starts where the templated prompt and the templated whole diverge.
    """
    start = tokenizer.apply_chat_template(
        prompt, tokenize=True, return_dict=True, add_generation_prompt=True
    )["input_ids"]
    whole = tokenizer.apply_chat_template([*prompt, *completion], tokenize=True, return_dict=True)[
        "input_ids"
    ]
    common = next(
        (i for i, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), min(len(start), len(whole))
    )
    return common, len(whole) - common


def _spool(rows: Iterable[AnyRow], path: Path, kind: Kind) -> tuple[datasets.Dataset, list[str]]:
    """Write rows to an Arrow file as they come; return it as a dataset, and the row ids."""
    ids: list[str] = []
    seen: set[str] = set()
    with ArrowWriter(features=kind.features, path=str(path), writer_batch_size=_BATCH) as writer:
        for row in rows:
            _check(row, kind)
            if row["row_id"] in seen:
                raise DataError(f"row id {row['row_id']!r} occurs twice among the rows to publish.")
            seen.add(row["row_id"])
            ids.append(row["row_id"])
            writer.write(row)
        writer.finalize()
    return datasets.Dataset.from_file(str(path)), ids


def _check(row: Mapping[str, Any], kind: Kind) -> None:
    """Raise DataError unless `row` has the columns of its kind, and text where TRL expects text."""
    if row.keys() != kind.features.keys():
        missing, unknown = (
            sorted(kind.features.keys() - row.keys()),
            sorted(row.keys() - kind.features.keys()),
        )
        raise DataError(
            f"row {row.get('row_id', '?')!r} does not fit the published schema: missing {missing}, unknown {unknown}."
        )
    if row["src_kind"] not in ("real", "synthetic"):
        raise DataError(
            f"row {row['row_id']!r}: src_kind is {row['src_kind']!r}; it must be 'real' or 'synthetic'."
        )
    for part in kind.trained_on:
        if problem := _problem(row[part], kind.features[part]):
            raise DataError(f"row {row['row_id']!r}: {part} {problem}")
    if "labels" in kind.features and not any(label != IGNORED for label in row["labels"]):
        raise DataError(
            f"row {row['row_id']!r}: no token of it has loss. Were its tokens counted (measure), and is one of its turns to be learnt?"
        )


def _problem(value: Any, feature: Any) -> str | None:
    # A None would be learnt as the word "None" by many chat templates, and another key would break the frozen schema.
    if feature == MESSAGES and (
        not value
        or any(
            m.keys() != {"role", "content"} or not all(isinstance(v, str) for v in m.values()) for m in value
        )
    ):
        return "must be one or more {role, content} messages of text."
    if feature == datasets.Value("string") and not (isinstance(value, str) and value.strip()):
        return "must be a text, and not blank."
    return None


def _content_digest(dataset: datasets.Dataset) -> str:
    total = hashlib.sha256()
    for row in dataset.with_format(None):
        total.update(orjson.dumps(row, option=orjson.OPT_SORT_KEYS))
    return total.hexdigest()


def _token_facts(dataset: datasets.Dataset, kind: Kind) -> dict[str, dict[str, int]]:
    parts = {part: column(dataset, name) for part, name in kind.counts.items()} | {
        "whole": whole_lengths(dataset, kind)
    }
    return {part: _percentiles(values) for part, values in parts.items()}


def _percentiles(values: np.ndarray) -> dict[str, int]:
    if not len(values):
        return {"p50": 0, "p95": 0, "max": 0}
    p50, p95 = np.percentile(values, [50, 95], method="higher")
    return {"p50": int(p50), "p95": int(p95), "max": int(values.max())}
