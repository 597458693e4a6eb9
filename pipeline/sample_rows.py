"""A few of a stage's rows to look at: kept rows spread over its parts, rejects by reason."""

from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import Any

import orjson

from pipeline.rows import Row
from pipeline.store import files, lookup, parts

Reject = dict[str, Any]


def spread(paths: list[str], n: int) -> list[Row]:
    """Return `n` rows spread evenly over the parts: neighbors are often samples of one question."""
    stocked = [p for p in paths if any(batch.num_rows for batch in lookup.read_columns(p, ("id",)))]
    count = min(n, len(stocked))
    sample: list[Row] = []
    for i in range(count):
        rows = list(parts.read_rows(stocked[i * len(stocked) // count]))
        wanted = n // count + (i < n % count)
        sample += [rows[k * len(rows) // wanted] for k in range(min(wanted, len(rows)))]
    return sample


def rejects(
    folder: str, kind: str, n: int, reasons: set[str] | None = None, look_at: int | None = None
) -> dict[str, list[Reject]]:
    """Return up to `n` of a stage's dropped or failed rows per reason, those with distinct texts first.

    Stops reading after `look_at` rows, or once each of `reasons` has `n` distinct texts.
    """
    distinct: dict[str, dict[str, Reject]] = {}  # reason -> text -> reject
    repeats: dict[str, list[Reject]] = {}
    for reject in islice(_read(files.join(folder, kind)), look_at):
        reason, text = reject["reason"], reject["raw"] or reject["payload"]
        texts = distinct.setdefault(reason, {})
        if text not in texts and len(texts) < n:
            texts[text] = reject
        elif len(same := repeats.setdefault(reason, [])) < n:
            same.append(reject)
        if reasons is not None and reasons <= distinct.keys() and all(len(t) >= n for t in distinct.values()):
            break
    samples = {r: [*texts.values(), *repeats.get(r, [])][:n] for r, texts in sorted(distinct.items())}
    for reject in (reject for sample in samples.values() for reject in sample):
        reject["payload"] = orjson.loads(reject["payload"])
    return samples


def mixed(rejects: dict[str, list[Reject]], n: int) -> list[Reject]:
    """Return `n` of the rejects, alternating between reasons."""
    turns = zip_longest(*rejects.values())
    return list(islice((reject for turn in turns for reject in turn if reject), n))


def _read(folder: str) -> Iterator[Reject]:
    for path in files.glob(folder, "*.arrow"):
        for batch in lookup.read_columns(path, ("id", "parents", "reason", "detail", "raw", "payload")):
            yield from batch.to_pylist()
