"""Tasks from Hugging Face datasets: a Hub name, a folder from save_to_disk, or data files."""

import os
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from fsspec.core import url_to_fs

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks import files
from stages.tasks.arrow_rows import rows_of
from stages.tasks.columns import top_level
from stages.tasks.paths import COMPRESSED
from stages.tasks.records import BadRow, RawRow

BATCH = 1000
# load_dataset reads these with pandas, which turns 007 into 7: read here, values stay as they are written.
OWN_READERS = {"csv": "csv", "json": "json"}
ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
}
READER_OPTIONS = {"sep": "delimiter", "delimiter": "delimiter", "field": "field"}
Records = Iterator[RawRow | BadRow]


def hf(source: Source, seed: int) -> Records:
    """Yield the rows of one split, with class labels as their names, or those of a local file.

    Options: `split` (default train) and any argument of `datasets.load_dataset` that runs no code. Raises
    DataError if the dataset or its split cannot be loaded.
    """
    if not source.path:
        raise DataError("source hf needs a path: a Hub name such as openai/gsm8k, a folder, or a file.")
    options = {"split": "train", **source.options}
    if "trust_remote_code" in options:
        raise DataError("source hf: leave trust_remote_code out: code that comes with a dataset is never run")
    if os.path.isfile(source.path):
        yield from _file(source, source.path, options)
        return
    try:
        if found := _own_files(source.path, options):
            yield from _split(*found, source, options)
            return
        yield from _rows(source.path, options)
    except DatasetNotFoundError as e:
        text = "neither a local folder nor a dataset that you can access on the Hub"
        raise DataError(f"{source.path}: {text}: {e}") from e
    except ConnectionError as e:
        why = "HF_HUB_OFFLINE is set" if datasets.config.HF_HUB_OFFLINE else "the Hub cannot be reached"
        text = f"neither a local folder nor in the cache, and {why}. Download it on a machine with a network."
        raise DataError(f"{source.path}: {text} ({e})") from e
    except (OSError, ValueError, TypeError, RuntimeError, DatasetGenerationError) as e:
        cause = f" ({e.__cause__})" if e.__cause__ else ""
        raise DataError(f"{source.path}: cannot be loaded with options {options}: {e}{cause}") from e


def _rows(path: str, options: dict[str, Any]) -> Records:
    loaded = _load(path, options)
    labels = {name: f for name, f in (loaded.features or {}).items() if isinstance(f, datasets.ClassLabel)}
    convert = partial(_label_name, labels) if labels else None
    number = 0
    for table in loaded.with_format("arrow").iter(BATCH):
        for row in rows_of(table, convert):
            number += 1
            yield RawRow(f"{path}[{options['split']}]:{number}", row)


def _load(path: str, options: dict[str, Any]) -> datasets.Dataset | datasets.IterableDataset:
    if not _is_saved(path):
        return datasets.load_dataset(path, **options)
    loaded, split = datasets.load_from_disk(path), options["split"]
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise DataError(f"{path}: no split {split!r}; there are: {', '.join(loaded)}. Set options.split.")
        return loaded[split]
    if split not in ("train", str(loaded.split)):
        raise DataError(f"{path}: the saved dataset has no splits; leave options.split: {split} out.")
    return loaded


def _is_saved(path: str) -> bool:
    fs, name = url_to_fs(path)
    return any(fs.exists(f"{name}/{mark}") for mark in ("state.json", "dataset_dict.json"))


def _file(source: Source, path: str, options: dict[str, Any]) -> Records:
    """Yield the rows of one local file, which is a whole split."""
    kind = next((k for end, k in ENDINGS.items() if path.endswith(tuple(end + c for c in COMPRESSED))), None)
    if kind is None:
        raise DataError(f"{path}: expected a folder, or a file that ends in {', '.join(ENDINGS)}.")
    known = {"split", "name", "streaming", *READER_OPTIONS}
    if unknown := sorted(set(options) - known):
        raise DataError(f"{path}: one file takes no option {', '.join(unknown)}; leave it out.")
    return _read(kind, path, source, options)


def _own_files(path: str, options: dict[str, Any]) -> tuple[str, dict[str, list[str]]] | None:
    """Return the reader, and the local files by split, if they are CSV or JSON without further settings."""
    known = {"split", "name", "data_files", "data_dir", "streaming", *READER_OPTIONS}
    if set(options) - known or _is_saved(path) or not (path in OWN_READERS or os.path.isdir(path)):
        return None
    given = {name: options[name] for name in ("name", "data_files", "data_dir") if name in options}
    builder = datasets.load_dataset_builder(path, **given)
    kind = OWN_READERS.get(type(builder).__module__.rpartition(".")[2])  # of datasets.packaged_modules
    found = {
        str(split): [str(f) for f in paths] for split, paths in (builder.config.data_files or {}).items()
    }
    wanted = [file for split in _names(options["split"]) for file in found.get(split, [""])]
    plain = kind and builder.info.features is None and all(map(os.path.isfile, wanted))
    return (str(kind), found) if plain else None


def _names(split: str) -> list[str]:
    """Return the splits that an expression such as train[:10%]+test takes rows from."""
    return [part.split("[")[0].strip() for part in str(split).split("+")]


def _split(kind: str, paths: dict[str, list[str]], source: Source, options: dict[str, Any]) -> Records:
    """Yield the rows of a split, or those that an expression selects."""
    split = str(options["split"])
    if split in paths:
        yield from chain.from_iterable(_read(kind, path, source, options) for path in paths[split])
        return

    def rows(name: str) -> Records:
        return chain.from_iterable(_read(kind, path, source, options) for path in paths[name])

    # Read twice rather than held: the shares of an expression are known once the rows are counted.
    counts = {name: sum(1 for _ in rows(name)) for name in _names(split)}
    for part in datasets.ReadInstruction.from_spec(split).to_absolute(counts):
        yield from islice(rows(part.splitname), part.from_, part.to)


def _read(kind: str, path: str, source: Source, options: dict[str, Any]) -> Records:
    inner = source.model_copy(update={"path": path, "options": {}})
    if kind == "csv":
        chosen = {READER_OPTIONS[name]: options[name] for name in ("sep", "delimiter") if name in options}
        return files.csv(inner.model_copy(update={"options": chosen}), 0)
    return (
        files.parquet(inner, 0)
        if kind == "parquet"
        else files.json_file(path, top_level(source), options.get("field"))
    )


def _label_name(labels: dict[str, datasets.ClassLabel], name: str, value: Any) -> Any:
    label = labels.get(name)
    if label is not None and isinstance(value, int) and 0 <= value < label.num_classes:
        return label.int2str(value)
    return value
