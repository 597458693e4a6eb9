"""Tasks from Hugging Face datasets: a Hub name, a folder written by save_to_disk, or a folder of data files."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from fsspec.core import url_to_fs

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks.records import BadRow, RawRow

Split = datasets.Dataset | datasets.IterableDataset


def hf(source: Source, seed: int) -> Iterator[RawRow | BadRow]:
    """Yield the rows of one split. Options: `split` (default train) and any argument of `datasets.load_dataset` that runs no code.

    A class label becomes its name. Raises DataError when the dataset or its split cannot be had.
    """
    if not source.path:
        raise DataError("source hf needs a path: a Hub name such as openai/gsm8k, or a folder.")
    options = {"split": "train", **source.options}
    if "trust_remote_code" in options:
        raise DataError(
            "source hf: trust_remote_code is not available: code that comes with a dataset is never run. Leave the option out."
        )
    split = options["split"]
    with _explained(source.path, options):
        rows = _load(source.path, options)
        labels = {name: f for name, f in (rows.features or {}).items() if isinstance(f, datasets.ClassLabel)}
        for number, row in enumerate(rows, 1):
            yield RawRow(
                f"{source.path}[{split}]:{number}", {k: _name(labels.get(k), v) for k, v in row.items()}
            )


def _load(path: str, options: dict[str, Any]) -> Split:
    fs, name = url_to_fs(path)
    if not any(
        fs.exists(f"{name}/{mark}") for mark in ("state.json", "dataset_dict.json")
    ):  # what save_to_disk leaves
        return datasets.load_dataset(path, **options)
    loaded, split = datasets.load_from_disk(path), options["split"]
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise DataError(
                f"{path}: no split {split!r}; there are: {', '.join(loaded)}. Name one in options.split."
            )
        return loaded[split]
    if split not in ("train", str(loaded.split)):
        raise DataError(
            f"{path}: the saved dataset has no splits, so that options.split: {split} means nothing. Leave it out."
        )
    return loaded


@contextmanager
def _explained(path: str, options: dict[str, Any]) -> Iterator[None]:
    """Turn what `datasets` raises (no such dataset, split, config or option; no network; bad files) into a DataError."""
    try:
        yield
    except DatasetNotFoundError as e:
        raise DataError(f"{path}: neither a folder here nor a dataset that the Hub shows you: {e}") from e
    except ConnectionError as e:
        why = "HF_HUB_OFFLINE is set" if datasets.config.HF_HUB_OFFLINE else "the Hub cannot be reached"
        raise DataError(
            f"{path}: neither a folder here nor in the cache, and {why}. Download it where there is a network. ({e})"
        ) from e
    except (OSError, ValueError, TypeError, RuntimeError, DatasetGenerationError) as e:
        cause = f" ({e.__cause__})" if e.__cause__ else ""
        raise DataError(f"{path}: cannot be loaded with options {options}: {e}{cause}") from e


def _name(label: datasets.ClassLabel | None, value: Any) -> Any:
    return (
        label.int2str(value) if label and isinstance(value, int) and 0 <= value < label.num_classes else value
    )
