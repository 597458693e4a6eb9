"""Where a row comes from and what became of it: from its seed task, through every request, to the published example.

A link is a row. It carries what each later stage did with it (its fates), with the requests that were made for it. Row ids are
derived from the parents and the stage, so a question that is asked again in another round may give rows of the same id: a row is
known by its id and its round.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, NamedTuple

import pyarrow.compute as pc

from pipeline.errors import SelfloopError
from pipeline.rundir import RoundKey, RunDir, round_name
from pipeline.stage import PROPOSE, RESUMED, STAGES
from pipeline.store import files
from pipeline.store import lookup as search

MIN_PREFIX = 6
MAX_DESCENDANTS = 200  # links below the row that was asked for; the ids of all are in the fates' `children`
_NO_ANCESTORS = (
    "publish",
    "pairs",
)  # no row is made from one that these make; those they are given stand here again
_TASK_SETS = ("train", "held_out", "demonstrations", "rejected")
Key = tuple[str, RoundKey | None]


@dataclass(slots=True)
class Fate:
    """What one stage did with a row. `outcome` is kept, dropped, failed, or under way (asked, but not finished)."""

    stage: str
    round: RoundKey
    outcome: str
    step: str = ""  # the step over all rows that dropped it; "" for the stage's function
    reason: str = ""
    detail: str = ""
    raw: str = ""
    children: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)  # records of the request log


@dataclass(slots=True)
class Published:
    """A training example, a preference pair, a conversation of many turns, or a text, that was made of a row."""

    folder: str
    row_id: str
    prompt: list[dict[str, str]] = field(default_factory=list)
    tokens_prompt: int = 0
    completion: list[dict[str, str]] = field(default_factory=list)
    tokens_completion: int = 0
    chosen: list[dict[str, str]] = field(
        default_factory=list
    )  # a preference pair has these two in place of a completion
    tokens_chosen: int = 0
    rejected: list[dict[str, str]] = field(default_factory=list)
    tokens_rejected: int = 0
    turns: list[dict[str, Any]] = field(
        default_factory=list
    )  # a conversation has these in place of prompt and completion
    tokens_context: int = 0
    tokens_loss: int = 0
    text: str = ""  # of continued pretraining, in place of all those
    tokens_text: int = 0


@dataclass(slots=True)
class Link:
    """One row. `stage` made it, in `round` (None: it was read with the tasks); `asked` marks the row that was asked for."""

    id: str
    stage: str
    round: RoundKey | None
    parents: list[str]
    payload: dict[str, Any]
    asked: bool = False
    fates: list[Fate] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)


def trace(run: RunDir, row_id: str, round_: RoundKey | None = None) -> list[Link]:
    """Return the row's ancestors from the seed task on, the row itself, and what came of it, each after its parents.

    `row_id` is the id of any stage's row or published example, or an unambiguous beginning of one. A row that stands in several
    rounds is traced in all of them, unless `round_` names one. Raises SelfloopError when there is no such row.
    """
    if not run.exists():
        raise SelfloopError(f"{run.root}: no run here (run.yaml is missing).")
    return _Trace(run, round_).links(row_id)


class _Place(NamedTuple):
    """A folder with rows: a task set (`round` is None) or a stage of a round."""

    stage: str
    round: RoundKey | None
    folder: str

    @property
    def kept(self) -> list[str]:
        if self.stage == "tasks/rejected":
            return files.glob(files.join(self.folder, "failed"), "part-*.arrow")
        folders = [
            files.join(self.folder, "rows"),
            *files.glob(files.join(self.folder, "steps"), "*"),
            self.folder,
        ]
        return [p for folder in folders for p in files.glob(folder, "part-*.arrow")]


class _Node(NamedTuple):
    place: _Place
    row: search.Found


class _Trace:
    """One search. Nodes are found by reading id columns only; payloads, rejects and requests are read for them alone."""

    def __init__(self, run: RunDir, round_: RoundKey | None) -> None:
        self._run = run
        sets = [
            f"sets/{folder.rstrip('/').rsplit('/', 1)[1]}" for folder in files.glob(run.tasks("sets"), "*")
        ]
        self._tasks = [
            _Place(f"tasks/{w}", None, run.tasks(w)) for w in (*_TASK_SETS[:-1], *sets, _TASK_SETS[-1])
        ]
        rounds = [r for r in run.rounds() if round_ is None or r == round_]
        evaluations = ["evaluate", RESUMED, *(s.replace("sets/", "evaluate-") for s in sets)]
        self._rounds = {
            r: [_Place(s, r, run.stage(r, s)) for s in (PROPOSE, *STAGES, *_NO_ANCESTORS, *evaluations)]
            for r in rounds
        }
        self._nodes: dict[Key, _Node] = {}

    def links(self, row_id: str) -> list[Link]:
        asked = self._resolve(row_id)
        for key in asked:
            self._ancestors(key)
            self._descendants(key)
        links = {key: self._link(key, key in asked) for key in self._nodes}
        for round_, places in self._rounds.items():
            if any(key[1] == round_ for key in self._nodes) or any(key[1] is None for key in asked):
                here = {key[0]: link for key, link in links.items() if key[1] in (None, round_)}
                for place in places:
                    _add_fates(self._run, place, here)
        for link in links.values():
            if link.stage == "tasks/rejected":
                _add_fates(self._run, self._tasks[-1], {link.id: link})
            for fate in link.fates:
                if fate.stage == "publish" and fate.outcome == "kept":
                    link.published += _examples(self._run, fate.round, link.id)
            if link.stage == "pairs" and link.round is not None:
                link.published += _examples(self._run, link.round, link.id)
        return list(links.values())

    def _resolve(self, row_id: str) -> list[Key]:
        found: dict[str, list[_Place]] = {}
        for place in self._places():
            for path in place.kept:
                for i in search.with_prefix(path, row_id):
                    if place not in (at := found.setdefault(i, [])):
                        at.append(place)
        example = re.fullmatch(r"(.+)-\d+", row_id)
        if row_id in found:
            return self._take(row_id, found[row_id])
        if len(found) == 1 and len(row_id) >= MIN_PREFIX:
            return self._take(*found.popitem())
        if found and len(row_id) >= MIN_PREFIX:
            few = ", ".join(sorted(found)[:5])
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise SelfloopError(
                f"{row_id!r} begins the ids of {len(found)} rows of {self._run.root}: {few}{more}. Give more of it."
            )
        if (
            not found and example
        ):  # the second and further examples of one row are published as <row id>-1, -2, ...
            return self._resolve(example[1])
        looked = "; ".join(
            f"{'tasks' if r is None else f'round {r}'} ({', '.join(names)})"
            for r, names in self._looked().items()
        )
        short = f" An id, or at least its first {MIN_PREFIX} characters, is needed." if found else ""
        raise SelfloopError(
            f"no row {row_id!r} in {self._run.root}.{short} Looked in: {looked or 'nothing, for it has no rows yet'}."
        )

    def _take(self, row_id: str, places: list[_Place]) -> list[Key]:
        """Make nodes of the row's first appearances: as a task, or else once in each round."""
        first: dict[RoundKey | None, _Place] = {}
        for place in places:
            first.setdefault(place.round, place)
        chosen = [first[None]] if None in first else list(first.values())
        for place in chosen:
            self._find(place, partial(search.with_ids, ids=[row_id]), 1)
        return [(row_id, place.round) for place in chosen]

    def _ancestors(self, key: Key) -> None:
        """Add the row's ancestors, walking back from its stage; rows of the same round come before those of earlier ones."""
        known, missing = {key[0]}, set(self._nodes[key].row.parents)
        before = [
            p
            for p in self._places()
            if p.round is None or (key[1] is not None and _order(p.round) <= _order(key[1]))
        ]
        found: list[Key] = []
        for place in (p for p in reversed(before) if p.stage not in _NO_ANCESTORS):
            while missing and (new := self._find(place, partial(search.with_ids, ids=missing))):
                found += new
                known |= {k[0] for k in new}
                missing = {p for k in new for p in self._nodes[k].row.parents} | missing
                missing -= known
            missing -= {
                k[0] for k in self._nodes if k[1] == place.round
            }  # found by the trace of another round
        if key[1] is not None and not any(k[1] is None for k in found):
            # A method may give a row without parents that are stored; its payload still names the task.
            task = self._payload(key).get("task_id")
            if isinstance(task, str):
                for place in self._tasks:
                    found += self._find(place, partial(search.with_ids, ids=[task]))
        moved = {k: self._nodes.pop(k) for k in reversed(found)}
        self._nodes = {
            **{k: n for k, n in moved.items() if k[1] is None},
            **{k: n for k, n in self._nodes.items() if k != key},
            **{k: n for k, n in moved.items() if k[1] is not None},
            key: self._nodes[key],
        }

    def _descendants(self, key: Key) -> None:
        for round_ in [key[1]] if key[1] is not None else list(self._rounds):
            frontier = {key[0]}
            for place in self._rounds[round_]:
                while new := self._find(place, partial(search.with_parents, ids=frontier), MAX_DESCENDANTS):
                    frontier |= {k[0] for k in new}

    def _find(
        self, place: _Place, search_in: Callable[[str], Iterator[search.Found]], limit: int | None = None
    ) -> list[Key]:
        """Add the rows that a search finds in a place; return the keys of those that are new, at most `limit` of them."""
        new: list[Key] = []
        for path in place.kept:
            for row in search_in(path):
                if (row.id, None) in self._nodes or (row.id, place.round) in self._nodes:
                    continue
                if limit is not None and len(new) >= limit:
                    return new
                self._nodes[row.id, place.round] = _Node(place, row)
                new.append((row.id, place.round))
        return new

    def _link(self, key: Key, asked: bool) -> Link:
        node = self._nodes[key]
        return Link(key[0], node.place.stage, key[1], node.row.parents, self._payload(key), asked)

    def _payload(self, key: Key) -> dict[str, Any]:
        node = self._nodes[key]
        return search.payloads(node.row.path, [key[0]]).get(key[0], {})

    def _places(self) -> list[_Place]:
        return [*self._tasks, *(p for places in self._rounds.values() for p in places)]

    def _looked(self) -> dict[RoundKey | None, list[str]]:
        looked: dict[RoundKey | None, list[str]] = {}
        for place in self._places():
            if place.kept:
                looked.setdefault(place.round, []).append(place.stage.removeprefix("tasks/"))
        return looked


def _add_fates(run: RunDir, place: _Place, links: dict[str, Link]) -> None:
    """Add what the stage in `place` did with each of the rows (by id) to their links."""
    round_: RoundKey = place.round if place.round is not None else 0
    kept = place.kept
    parts = {path.rsplit("/", 1)[1] for path in kept}
    passed_on = set(files.glob(place.folder, "part-step-*.arrow"))
    fates: dict[str, Fate] = {}
    for kind in ("dropped", "failed"):
        for path in files.glob(files.join(place.folder, kind), "part-*.arrow"):
            name = path.rsplit("/", 1)[1]
            for r in (
                search.rejects(path, links) if name in parts else ()
            ):  # without their part, they are leftovers of a kill
                fates[r["id"]] = Fate(
                    place.stage, round_, kind, _step(run, place, name), r["reason"], r["detail"], r["raw"]
                )
    for path in kept:
        if not path.rsplit("/", 1)[1].startswith("part-step-"):
            for i in search.inputs_among(path, links.keys() - fates.keys()):
                fates[i] = Fate(place.stage, round_, "kept")
        elif path in passed_on:
            for i in search.inputs_among(
                path, links.keys() - fates.keys()
            ):  # those that a step dropped have their fate already
                if (links[i].stage, links[i].round) != (place.stage, place.round):
                    fates[i] = Fate(place.stage, round_, "kept")
    for path in files.glob(files.join(place.folder, "requests"), "*.jsonl"):
        for record in search.requests_of(path, links):
            requests = fates.setdefault(record["row"], Fate(place.stage, round_, "under way")).requests
            if record["key"] not in {r["key"] for r in requests}:
                requests.append(record)
    for path in kept:
        for found in search.with_parents(path, fates):
            for parent in found.parents:
                if (
                    parent in fates
                    and fates[parent].outcome == "kept"
                    and found.id not in fates
                    and found.id not in fates[parent].children
                ):
                    fates[parent].children.append(found.id)
    for i, fate in fates.items():
        fate.requests.sort(key=lambda r: r.get("time", 0))
        links[i].fates.append(fate)


def _step(run: RunDir, place: _Place, part: str) -> str:
    found = re.match(r"part-step-(\d+)-", part)
    if not found:
        return ""
    manifest, number = run.manifest(place.folder), int(found[1])
    return manifest.steps[number].name if manifest and number < len(manifest.steps) else f"step {number}"


def _examples(run: RunDir, round_: RoundKey, row_id: str) -> Iterable[Published]:
    for folder in (
        files.join(kind, f"round-{round_name(round_)}") for kind in files.glob(run.path("datasets"), "*")
    ):
        for path in files.glob(files.join(folder, "train"), "data-*.arrow"):
            columns = {f.name for f in fields(Published)} - {"folder"}
            for batch in search.read_columns(path, columns):
                for row in batch.filter(
                    pc.match_substring_regex(batch["row_id"], f"^{re.escape(row_id)}(-\\d+)?$")
                ).to_pylist():
                    yield Published(folder, **row)


def _order(round_: RoundKey) -> int:
    return -1 if isinstance(round_, str) else round_
