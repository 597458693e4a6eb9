"""Tasks from Hugging Face datasets: a Hub name, a folder from save_to_disk, or a folder of data files."""

from collections.abc import Iterator
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from fsspec.core import url_to_fs

from pipeline.config import Source
from pipeline.errors import DataError
from stages.tasks.records import BadRow, RawRow


def hf(source: Source, seed: int) -> Iterator[RawRow | BadRow]:
    """Yield the rows of one split, with class labels as their names.

    Options: `split` (default train) and any argument of `datasets.load_dataset` that runs no code. Raises
    DataError if the dataset or its split cannot be loaded.
    """
    if not source.path:
        raise DataError("source hf needs a path: a Hub name such as openai/gsm8k, or a folder.")
    options = {"split": "train", **source.options}
    if "trust_remote_code" in options:
        raise DataError("source hf: leave trust_remote_code out: code that comes with a dataset is never run")
    try:
        rows = _load(source.path, options)
        labels = {name: f for name, f in (rows.features or {}).items() if isinstance(f, datasets.ClassLabel)}
        for number, row in enumerate(rows, 1):
            values = {name: _label_name(labels.get(name), value) for name, value in row.items()}
            yield RawRow(f"{source.path}[{options['split']}]:{number}", values)
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


def _load(path: str, options: dict[str, Any]) -> datasets.Dataset | datasets.IterableDataset:
    fs, name = url_to_fs(path)
    saved_to_disk = any(fs.exists(f"{name}/{mark}") for mark in ("state.json", "dataset_dict.json"))
    if not saved_to_disk:
        return datasets.load_dataset(path, **options)
    loaded, split = datasets.load_from_disk(path), options["split"]
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise DataError(f"{path}: no split {split!r}; there are: {', '.join(loaded)}. Set options.split.")
        return loaded[split]
    if split not in ("train", str(loaded.split)):
        raise DataError(f"{path}: the saved dataset has no splits; leave options.split: {split} out.")
    return loaded


def _label_name(label: datasets.ClassLabel | None, value: Any) -> Any:
    if label is not None and isinstance(value, int) and 0 <= value < label.num_classes:
        return label.int2str(value)
    return value
