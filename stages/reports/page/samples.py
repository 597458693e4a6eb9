"""The rows that a page shows one by one: how each one ended, spread over rounds, stages and reasons.

A row ends where it is dropped or fails, or when it is published, paired, or judged in evaluation. Of large
runs some rows of every kind are taken (`quotas`); those whose verdict differs from that of the model before
(flips) always are.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from pipeline import overview
from pipeline.overview import NOT_BEGUN
from pipeline.rundir import RoundKey, RunDir
from pipeline.stage import LABELS, PAIRS, PUBLISH, STAGES
from pipeline.store import files, lookup

Facts = dict[str, Any]
ROWS = 50_000  # of a page
ANSWER = 4_000  # characters of an earlier answer
FILES = 400  # read at most of each folder, evenly spread
COLUMNS = ("id", "parents", "payload")
REJECT_COLUMNS = (*COLUMNS, "reason", "detail", "raw")
PUBLISHED, KEPT, PAIRED, LABELLED = "published", "kept so far", "paired", "labelled"
RIGHT, WRONG = "right", "wrong"
WON, LOST = "won", "lost"


class Kind(NamedTuple):
    """What rows of a page have in common: where they ended, and how. `flip` is WON, LOST or ""."""

    round: RoundKey
    stage: str
    outcome: str
    reason: str = ""
    flip: str = ""


@dataclass(slots=True)
class Sample:
    """A row and how it ended."""

    kind: Kind
    id: str
    parents: list[str]
    payload: Facts
    detail: str = ""
    raw: str = ""
    before: tuple[RoundKey, str] | None = None  # of a flip: the model before, and its answer


@dataclass(slots=True)
class Samples:
    """The chosen rows, and how many rows of each kind there are."""

    rows: list[Sample] = field(default_factory=list)
    totals: Counter[Kind] = field(default_factory=Counter)


def choose(run: RunDir, rounds: Sequence[Facts], limit: int = ROWS) -> Samples:
    """Return at most `limit` rows of a run, and all flips; `rounds` are those of the overview."""
    sources = [source for r in rounds for source in _sources(run, r)]
    sources += _evaluations(run, rounds)
    found = Samples(totals=Counter({kind: n for s in sources for kind, n in s.totals.items()}))
    wanted = quotas(found.totals, limit)
    for source in sources:
        found.rows += source.take({kind: wanted[kind] for kind in source.totals})
    return found


def quotas(totals: Counter[Kind], limit: int) -> Counter[Kind]:
    """Return how many rows of each kind to take: all flips, and equally many of the others, but for kinds
    that have fewer.
    """
    found = Counter({kind: n for kind, n in totals.items() if kind.flip})
    others = sorted(((n, kind) for kind, n in totals.items() if not kind.flip), key=lambda item: item[0])
    left = max(0, limit - found.total())
    for i, (n, kind) in enumerate(others):
        found[kind] = min(n, left // (len(others) - i))
        left -= found[kind]
    return found


class _Source:
    """Files with rows of one or several kinds."""

    def __init__(self, totals: dict[Kind, int], paths: Sequence[str], columns: Sequence[str]) -> None:
        self.totals = totals
        self._paths, self._columns = paths, columns

    def kind(self, row: Facts) -> Kind:
        """Return a row's kind; one that `totals` lacks is left out."""
        return next(iter(self.totals))

    def take(self, wanted: dict[Kind, int]) -> Iterator[Sample]:
        """Yield so many rows of each kind, from all over the files."""
        count = min(FILES, len(self._paths))
        paths = [self._paths[i * len(self._paths) // count] for i in range(count)]
        left, taken = Counter(wanted), set()
        # At first no more from a file than its share, then wherever there are some.
        for shared in (True, False):
            for i, path in enumerate(paths):
                if not +left:
                    return
                share = Counter({kind: -(-n // (count - i)) if shared else n for kind, n in left.items()})
                for batch in lookup.read_columns(path, self._columns):
                    if not +share:
                        break
                    for row in batch.to_pylist():
                        kind = self.kind(row)
                        if share[kind] > 0 and (kind, row["id"]) not in taken:
                            taken.add((kind, row["id"]))
                            share[kind] -= 1
                            left[kind] -= 1
                            yield _sample(kind, row)


class _Rejects(_Source):
    """The dropped or failed rows of a stage."""

    def __init__(
        self, round_: RoundKey, stage: str, outcome: str, reasons: dict[str, int], folder: str
    ) -> None:
        totals = {Kind(round_, stage, outcome, reason): n for reason, n in reasons.items() if n}
        super().__init__(totals, files.glob(files.join(folder, outcome), "part-*.arrow"), REJECT_COLUMNS)
        self._place = (round_, stage, outcome)

    def kind(self, row: Facts) -> Kind:
        return Kind(*self._place, row["reason"])


class _Judged(_Source):
    """The questions of an evaluation, beside those of the model `before`, by task."""

    def __init__(self, round_: RoundKey, stage: str, paths: Sequence[str], before: "_Judged | None") -> None:
        self.round, self._place = round_, (round_, stage)
        self._before = before
        self.judged: dict[Any, tuple[bool, str]] = {}  # task -> is the answer right, the answer
        totals: Counter[Kind] = Counter()
        for path in paths:
            for batch in lookup.read_columns(path, ("payload",)):
                for text in batch["payload"].to_pylist():
                    payload = orjson.loads(text)
                    said = str((payload.get("greedy") or {}).get("text") or "")
                    self.judged[payload.get("task_id")] = (_is_right(payload), said[:ANSWER])
                    totals[self._kind(payload)] += 1
        super().__init__(totals, paths, COLUMNS)

    def kind(self, row: Facts) -> Kind:
        return self._kind(orjson.loads(row["payload"]))

    def take(self, wanted: dict[Kind, int]) -> Iterator[Sample]:
        for sample in super().take(wanted):
            if sample.kind.flip and self._before:
                sample.before = (self._before.round, self._before.judged[sample.payload["task_id"]][1])
            yield sample

    def _kind(self, payload: Facts) -> Kind:
        right, task = _is_right(payload), payload.get("task_id")
        before = self._before.judged.get(task) if self._before else None
        flip = "" if before is None or before[0] == right else WON if right else LOST
        problem = (payload.get("greedy") or {}).get("problem") or ""
        return Kind(*self._place, RIGHT if right else WRONG, problem, flip)


def _sources(run: RunDir, r: Facts) -> Iterator[_Source]:
    """Yield where the rows of a round ended, but for its evaluations."""
    round_, stages = r["round"], r["stages"]
    begun = [name for name, facts in stages.items() if facts["state"] != NOT_BEGUN]
    for name in begun:
        facts, folder = stages[name], run.stage(round_, name)
        if facts["passes_through"]:
            continue
        dropped = Counter(facts["dropped"])
        for step in facts["steps"]:
            dropped.update(step["dropped"])
        for outcome, reasons in (("dropped", dropped), ("failed", facts["failed"])):
            if reasons:
                yield _Rejects(round_, name, outcome, reasons, folder)
    last = next((name for name in (PUBLISH, *reversed(STAGES)) if name in begun), None)
    ends = ((last, PUBLISHED if last == PUBLISH else KEPT), (PAIRS, PAIRED), (LABELS, LABELLED))
    for name, outcome in ends:
        if name in begun and stages[name]["out"]:
            kind = {Kind(round_, str(name), outcome): stages[name]["out"]}
            yield _Source(kind, kept(run, round_, str(name)), COLUMNS)


def _evaluations(run: RunDir, rounds: Sequence[Facts]) -> Iterator[_Source]:
    names = dict.fromkeys(name for r in rounds for name in r["stages"] if name.startswith("evaluate"))
    for name in names:
        evaluated = [r["round"] for r in rounds if r["stages"].get(name, {}).get("out")]
        before: _Judged | None = None
        for round_ in evaluated:
            before = _Judged(round_, name, kept(run, round_, name), before)
            for reject in run.rejects(run.stage(round_, name), "failed"):
                before.judged[reject["id"]] = (False, "(the request failed)")
            yield before


def kept(run: RunDir, round_: RoundKey, stage: str) -> list[str]:
    """Return the parts with the rows that a stage passes on, or has passed on so far."""
    folder = run.stage(round_, stage)
    manifest = run.manifest(folder)
    return [run.path(part.path) for part in manifest.parts] if manifest else overview.row_parts(folder)


def _is_right(payload: Facts) -> bool:
    return bool((payload.get("greedy") or {}).get("correct"))


def _sample(kind: Kind, row: Facts) -> Sample:
    detail, raw = (row.get(name) or "" for name in ("detail", "raw"))
    return Sample(kind, row["id"], row["parents"], orjson.loads(row["payload"]), detail, raw)
