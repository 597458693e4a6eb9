"""The dataset card (README.md): what the data is, where it comes from and how to load it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from pipeline.markdown import line
from pipeline.publish.kinds import SFT, Kind


@dataclass(slots=True, frozen=True)
class CardFacts:
    """What the card tells beyond the rows themselves.

    `stages` maps a stage to its counts, such as {"in": 10, "kept": 7, "dropped": 3, "failed": 0}; `dropped`
    maps "stage: reason" to a count; `notes` are further lines, such as filter settings or a source and its
    license. `made_of` is a digest of the stage output that was published; it goes into the manifest.
    """

    title: str
    method: str
    model: str
    round: int
    stages: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    made_of: str = ""


def card(facts: CardFacts, manifest: Mapping[str, Any], kind: Kind = SFT) -> str:
    """Return the text of README.md for a dataset with `manifest` (see write_dataset)."""
    sections = [
        [_front_matter(manifest, kind)],
        _provenance(facts, manifest, kind),
        _counts(facts),
        _lengths(manifest, kind),
        [_LOADING.format(command=kind.command)],
        _columns(kind),
    ]
    return "\n".join(line for section in sections for line in section)


def _front_matter(manifest: Mapping[str, Any], kind: Kind) -> str:
    # With `data_files`, load_dataset reads the Arrow files alone and not the JSON beside them.
    files = [{"split": "train", "path": "train/data-*.arrow"}]
    split = {"name": "train", "num_bytes": manifest["bytes"], "num_examples": manifest["rows"]}
    matter = {
        "task_categories": ["text-generation"],
        "tags": ["synthetic", kind.name, "selfloop"],
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {"splits": [split]},
    }
    return f"---\n{yaml.safe_dump(matter, sort_keys=False)}---\n"


def _provenance(facts: CardFacts, manifest: Mapping[str, Any], kind: Kind) -> list[str]:
    rows, real, synthetic = manifest["rows"], manifest["real"], manifest["synthetic"]
    share = f" ({synthetic / rows:.0%} synthetic)" if rows else ""
    return [
        f"# {line(facts.title)}\n",
        f"{rows} {kind.form}.\n",
        f"- Method: {facts.method}, round {facts.round}",
        f"- Model that wrote the synthetic completions: {line(facts.model) or 'none'}",
        f"- Real {kind.real}: {real}; synthetic {kind.unit}: {synthetic}{share}",
        *(
            [f"- Right answers: {manifest['right']}; wrong answers: {manifest['wrong']}"]
            if kind.flags
            else []
        ),
        f"- Schema version {kind.version}, content digest `{manifest['digest']}`",
        f"- Order: shuffled with seed {manifest['seed']}",
        *(f"- {line(note)}" for note in facts.notes),
        "",
    ]


def _counts(facts: CardFacts) -> list[str]:
    lines = []
    if facts.stages:
        names = list(dict.fromkeys(name for counts in facts.stages.values() for name in counts))
        rows = [[stage, *(counts.get(name, 0) for name in names)] for stage, counts in facts.stages.items()]
        lines += _table("Rows per stage", ["stage", *names], rows)
    if facts.dropped:
        reasons = sorted(facts.dropped.items(), key=lambda item: (-item[1], item[0]))
        lines += _table("Why rows were dropped", ["reason", "rows"], reasons)
    return lines


def _lengths(manifest: Mapping[str, Any], kind: Kind) -> list[str]:
    rows = [[part, n["p50"], n["p95"], n["max"]] for part, n in manifest["tokens"].items()]
    return [*_table("Lengths in tokens", ["part", "p50", "p95", "max"], rows), f"{kind.counting}\n"]


def _table(title: str, header: list[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    align = f"| --- |{' ---: |' * (len(header) - 1)}"
    lines = (f"| {' | '.join(line(value) for value in row)} |" for row in rows)
    return [f"## {title}\n", f"| {' | '.join(header)} |", align, *lines, ""]


def _columns(kind: Kind) -> list[str]:
    *first, last = (f"`{name}`" for name in kind.trained_on)
    read = f"{', '.join(first)} and {last} are" if first else f"{last} is"
    return [
        "## Columns\n",
        f"{read} what a trainer reads; the others are lineage:",
        ", ".join(f"`{c}`" for c in kind.columns) + ".\n",
    ]


_LOADING = """## Loading

```python
from datasets import load_dataset, load_from_disk

train = load_dataset("path/to/this/folder", split="train")
train = load_from_disk("path/to/this/folder")["train"]  # memory-mapped, no copy in the cache
```

TRL trains on a mixture of any number of such folders (`trl {command} --config trainer.yaml`):

```yaml
datasets:
  - path: path/to/this/folder
```
"""
