"""Tasks from Hugging Face datasets: a Hub name, a folder written by save_to_disk, or a folder of data files."""

from collections.abc import Iterator
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
        raise DataError("source hf: trust_remote_code is not available: code that comes with a dataset is never run. Leave the option out.")
    split = options["split"]
    rows = _load(source.path, options)
    labels = {name: f for name, f in (rows.features or {}).items() if isinstance(f, datasets.ClassLabel)}
    for number, row in enumerate(rows, 1):
        yield RawRow(f"{source.path}[{split}]:{number}", {k: _name(labels.get(k), v) for k, v in row.items()})


def _load(path: str, options: dict[str, Any]) -> Split:
    split = options["split"]
    try:
        fs, name = url_to_fs(path)
        saved = [f for f in ("state.json", "dataset_dict.json") if fs.exists(f"{name}/{f}")]
        if not saved:
            return datasets.load_dataset(path, **options)
        loaded = datasets.load_from_disk(path)
    except DatasetNotFoundError as e:
        raise DataError(f"{path}: neither a folder here nor a dataset that the Hub shows you: {e}") from e
    except ConnectionError as e:
        offline = "HF_HUB_OFFLINE is set" if datasets.config.HF_HUB_OFFLINE else "the Hub cannot be reached"
        raise DataError(f"{path}: not a folder here and not in the cache, and {offline}. Download it where there is a network: {e}") from e
    except (OSError, ValueError, TypeError, RuntimeError, DatasetGenerationError) as e:  # no such split or config, unknown option, bad files
        cause = f" ({e.__cause__})" if e.__cause__ else ""
        raise DataError(f"{path}: cannot be loaded with {options}: {e}{cause}") from e
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise DataError(f"{path}: no split {split!r}; there are: {', '.join(loaded)}. Name one in options.split.")
        return loaded[split]
    if "split" in options and split not in ("train", str(loaded.split)):
        raise DataError(f"{path}: the saved dataset has no splits, so that options.split: {split} means nothing. Leave it out.")
    return loaded


def _name(label: datasets.ClassLabel | None, value: Any) -> Any:
    return label.int2str(value) if label and isinstance(value, int) and 0 <= value < label.num_classes else value
