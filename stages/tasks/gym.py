"""Procedural tasks from any reasoning_gym dataset, the same for the same seed on every machine."""

import dataclasses
import random
import typing
from collections.abc import Iterator
from typing import Any

import numpy
from reasoning_gym.dataset import ProceduralDataset
from reasoning_gym.factory import DATASETS

from pipeline.config import Source
from pipeline.errors import DataError, suggest
from stages.tasks.entries import pack
from stages.tasks.fixed_process import in_fixed_process
from stages.tasks.records import BadRow, RawRow, Repeat

DEFAULT_LIMIT = 1000
ROUNDS = 3  # over a small space of questions before fewer than `limit` are accepted


def reasoning_gym(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    """Yield `source.limit` (default 1000) distinct tasks of the dataset `source.dataset`, if it has as many.

    `source.options` is the dataset's config, whose `seed` overrides `seed`. Raises DataError. Generation
    takes a process of its own, because several generators iterate over sets of strings, whose order
    differs by process.
    """
    find_dataset(source.dataset)
    yield from in_fixed_process("stages.tasks.gym:generate", source, seed)


def generate(source: Source, seed: int) -> Iterator[RawRow | BadRow | Repeat]:
    """Yield what `reasoning_gym` yields, generated in this process."""
    name, limit = source.dataset or "", source.limit or DEFAULT_LIMIT
    if "size" in source.options:
        raise DataError(
            f"reasoning_gym {name}: `limit`, beside options, sets the size; leave options.size out."
        )
    first = source.options.get("seed", seed)
    questions: set[str] = set()
    for offset in range(0, ROUNDS * limit, limit):
        # Item i of a dataset depends on seed + i, so this continues where the last round ended.
        dataset = make_dataset(name, {**source.options, "seed": first + offset, "size": limit})
        random.seed(first + offset)  # a few generators draw from the global generators as well
        numpy.random.seed((first + offset) % 2**32)
        known = len(questions)
        for index in range(limit):
            row = _row(dataset, index, f"{name}[{offset + index}]")
            question = row.values["question"] if isinstance(row, RawRow) else None
            yield Repeat(row.where) if question in questions else row
            if question is not None:
                questions.add(question)
            if len(questions) == limit:
                return
        if len(questions) == known:
            return


def find_dataset(name: str | None) -> tuple[type[ProceduralDataset], type]:
    """Return the classes of the dataset `name` and of its config. Raises DataError with the nearest name."""
    if not name:
        raise DataError("source reasoning_gym needs the name of a dataset, such as dataset: chain_sum.")
    if name not in DATASETS:
        hint = suggest(name, DATASETS) or f" There are: {', '.join(sorted(DATASETS))}."
        raise DataError(f"reasoning_gym has no dataset {name!r}.{hint}")
    return DATASETS[name]


def make_dataset(name: str, options: dict[str, Any]) -> ProceduralDataset:
    """Return the dataset with this config. Raises DataError for an unknown option or a rejected value."""
    dataset_class, config_class = find_dataset(name)
    known = [f.name for f in dataclasses.fields(config_class)]
    if unknown := [option for option in options if option not in known]:
        hint = suggest(unknown[0], known)
        there = ", ".join(k for k in known if k not in ("seed", "size"))
        raise DataError(f"reasoning_gym {name}: no option {unknown[0]!r}.{hint} Its options: {there}.")
    try:
        hints = typing.get_type_hints(config_class)
        config = config_class(**{k: _typed(v, hints[k]) for k, v in options.items()})
        if hasattr(config, "validate"):  # two configs have none
            config.validate()
        return dataset_class(config=config)
    except (AssertionError, ValueError, TypeError, LookupError, AttributeError) as e:
        given = {k: v for k, v in options.items() if k not in ("seed", "size")}
        why = str(e) or type(e).__name__
        raise DataError(f"reasoning_gym {name}: cannot be created with options {given}: {why}") from e


def _row(dataset: ProceduralDataset, index: int, where: str) -> RawRow | BadRow:
    try:
        entry = dataset[index]
        return RawRow(where, {"question": entry["question"], "answer": entry["answer"], "entry": pack(entry)})
    except Exception as e:  # whatever a generator raises is one bad row
        return BadRow(where, f"could not be generated: {type(e).__name__}: {e}")


def _typed(value: Any, hint: Any) -> Any:
    """Turn YAML's mappings into the dataclasses of a config (board formats, the parts of a composite)."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return hint(**value)
    if typing.get_origin(hint) is list and isinstance(value, list):
        return [_typed(v, typing.get_args(hint)[0]) for v in value]
    return value
