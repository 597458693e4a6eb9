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
    samples: dict[str, _Distinct] = {}
    for reject in islice(_read(files.join(folder, kind)), look_at):
        samples.setdefault(reject["reason"], _Distinct(n)).add(reject)
        if reasons is not None and reasons <= samples.keys() and all(s.full for s in samples.values()):
            break
    return {reason: sample.rows() for reason, sample in sorted(samples.items())}


def mixed(rejects: dict[str, list[Reject]], n: int) -> list[Reject]:
    """Return `n` of the rejects, alternating between reasons."""
    turns = zip_longest(*rejects.values())
    return list(islice((reject for turn in turns for reject in turn if reject), n))


class _Distinct:
    """Up to n rejects with distinct texts, topped up with repeats when there are too few."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._by_text: dict[str, Reject] = {}
        self._repeats: list[Reject] = []

    @property
    def full(self) -> bool:
        return len(self._by_text) >= self._n

    def add(self, reject: Reject) -> None:
        text = reject["raw"] or reject["payload"]
        if text not in self._by_text and not self.full:
            self._by_text[text] = reject
        elif len(self._repeats) < self._n:
            self._repeats.append(reject)

    def rows(self) -> list[Reject]:
        rows = [*self._by_text.values(), *self._repeats][: self._n]
        return [{**r, "payload": orjson.loads(r["payload"])} for r in rows]


def _read(folder: str) -> Iterator[Reject]:
    for path in files.glob(folder, "*.arrow"):
        for batch in lookup.read_columns(path, ("id", "parents", "reason", "detail", "raw", "payload")):
            yield from batch.to_pylist()
