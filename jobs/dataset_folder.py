"""How inspect shows a dataset: rows, columns, lengths and a few rows of a folder or file."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.rendering import show_payload
from jobs.showing import show
from pipeline.errors import DataError
from pipeline.payload import MESSAGES

FILES = {".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".arrow": "arrow"}


def is_dataset(path: Path) -> bool:
    """Tell whether a path looks like a dataset rather than a run."""
    if path.is_file():
        return path.suffix in FILES
    if not path.is_dir() or (path / "run.yaml").exists():
        return False
    return any((path / name).exists() for name in ("dataset_dict.json", "dataset_info.json")) or any(
        child.suffix in FILES for pattern in ("*", "data/*", "train/*") for child in path.glob(pattern)
    )


def dataset_facts(path: Path, n: int) -> dict[str, Any]:
    """Return a dataset's splits, each with its rows, columns, lengths and `n` rows spread over it.

    Raises DataError for what `datasets` cannot read.
    """
    with tempfile.TemporaryDirectory(prefix="selfloop-inspect-") as cache:
        splits = {name: _split(split, n) for name, split in _load(path, cache).items()}
    return {"dataset": str(path), "splits": splits}


def show_dataset(facts: dict[str, Any], full: bool) -> None:
    """Print what `dataset_facts` returned."""
    show(facts["dataset"], style="bold")
    for name, split in facts["splits"].items():
        show()
        show(f"{name}: {split['rows']:,} rows", style="bold")
        width = max(map(len, split["columns"]), default=0) + 2
        for column, type_ in split["columns"].items():
            lengths = split["lengths"].get(column)
            measured = ""
            if lengths and lengths["p50"] != lengths["max"]:
                marks = "median {p50:,}, 95% {p95:,}, most {max:,}".format(**lengths)
                measured = f"  {lengths['unit']}: {marks}"
            show(f"{column:<{width}}{type_}{measured}", 2)
        for row in split["sample"]:
            show()
            show_payload(row, 2, full)


def _load(path: Path, cache: str) -> Any:
    import datasets

    datasets.disable_progress_bars()
    try:
        if path.is_dir() and any((path / n).exists() for n in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(path))
            return found if isinstance(found, datasets.DatasetDict) else {"(no split)": found}
        if path.is_file():
            return datasets.load_dataset(FILES[path.suffix], data_files=str(path), cache_dir=cache)
        return datasets.load_dataset(str(path), cache_dir=cache)
    except Exception as e:  # of many kinds, by format
        cause = e.__cause__ or e
        raise DataError(f"{path}: cannot be read as a dataset: {type(cause).__name__}: {cause}") from None


def _split(split: Any, n: int) -> dict[str, Any]:
    rows = [split[i * len(split) // n] for i in range(n)] if len(split) > n else list(split)
    types = {name: _type(feature) for name, feature in split.features.items()}
    lengths = {name: measured for name in types if (measured := _lengths(split, name))}
    return {"rows": len(split), "columns": types, "lengths": lengths, "sample": rows}


def _lengths(split: Any, column: str) -> dict[str, Any] | None:
    """Return quantiles of a column's texts in characters, of its lists in items, or of its token counts."""
    unit, values = "", []
    for batch in split.select_columns([column]).with_format("arrow").iter(10_000):
        unit, found = _measured(column, batch[column].combine_chunks())
        if found is None:
            return None
        values += found.drop_null().to_pylist()
    marks = np.percentile(values, [50, 95, 100], method="higher") if values else ()
    return (
        {"unit": unit, **dict(zip(("p50", "p95", "max"), map(int, marks), strict=True))} if values else None
    )


def _measured(column: str, values: pa.Array) -> tuple[str, pa.Array | None]:
    type_ = values.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "characters", pc.utf8_length(values)
    if type_ == MESSAGES:
        texts = (" ".join(m["content"] or "" for m in messages or ()) for messages in values.to_pylist())
        return "characters", pa.array(map(len, texts), pa.int64())
    if pa.types.is_list(type_):
        return "items", pc.list_value_length(values)
    if pa.types.is_integer(type_) and "tokens" in column:
        return "tokens", values
    return "", None


def _type(feature: Any) -> str:
    """Return a feature's type in a few characters: string, [int32], {role, content}."""
    if isinstance(feature, dict):
        return "{" + ", ".join(feature) + "}"
    inner = getattr(feature, "feature", None)
    return str(feature.dtype).removeprefix("large_") if inner is None else f"[{_type(inner)}]"
