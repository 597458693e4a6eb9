"""A few rows to look at: spread over a stage's parts, and of the rejects some of each reason, with different texts."""

from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import Any

import orjson

from pipeline.rows import Row
from pipeline.store import files, parts
from pipeline.store import lookup as search


def spread(paths: list[str], n: int) -> list[Row]:
    """Return `n` rows that are spread evenly over the parts: neighbours are often samples of one question."""
    stocked = [p for p in paths if _count(p)]
    if not stocked or n < 1:
        return []
    chosen = [stocked[i * len(stocked) // min(n, len(stocked))] for i in range(min(n, len(stocked)))]
    found: list[Row] = []
    for i, path in enumerate(chosen):
        wanted = n // len(chosen) + (i < n % len(chosen))
        rows = list(parts.read_rows(path))
        found += [rows[k * len(rows) // wanted] for k in range(min(wanted, len(rows)))]
    return found


def rejects(
    folder: str, kind: str, n: int, reasons: set[str] | None = None, look_at: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Return `n` of a stage's dropped or failed rows for each reason, those with different texts first.

    Reading stops when each of `reasons` (all there are, if known) has `n` different texts, and after `look_at` rows.
    """
    found: dict[str, _Different] = {}
    for reject in islice(_rejects(files.join(folder, kind)), look_at):
        found.setdefault(reject["reason"], _Different(n)).add(reject)
        if reasons is not None and reasons <= found.keys() and all(d.full for d in found.values()):
            break
    return {reason: different.rows() for reason, different in sorted(found.items())}


def mixed(rejects: dict[str, list[dict[str, Any]]], n: int) -> list[dict[str, Any]]:
    """Return `n` of the rejects that `rejects` found, of different reasons as far as there are."""
    turns = zip_longest(*rejects.values())
    return list(islice((reject for turn in turns for reject in turn if reject), n))


class _Different:
    """Collects up to n rejects whose texts differ, and up to n others in case there are not so many."""

    def __init__(self, n: int) -> None:
        self._n, self._texts, self._others = n, {}, []

    @property
    def full(self) -> bool:
        return len(self._texts) >= self._n

    def add(self, reject: dict[str, Any]) -> None:
        text = reject["raw"] or reject["payload"]
        if text not in self._texts and not self.full:
            self._texts[text] = reject
        elif len(self._others) < self._n:
            self._others.append(reject)

    def rows(self) -> list[dict[str, Any]]:
        rows = [*self._texts.values(), *self._others][: self._n]
        return [{**r, "payload": orjson.loads(r["payload"])} for r in rows]


def _rejects(folder: str) -> Iterator[dict[str, Any]]:
    for path in files.glob(folder, "*.arrow"):
        for batch in search.read_columns(path, ("id", "parents", "reason", "detail", "raw", "payload")):
            yield from batch.to_pylist()


def _count(path: str) -> int:
    return sum(batch.num_rows for batch in search.read_columns(path, ("id",)))
