"""A row's lineage: from its seed task, through every request, to the published example.

A link is a row; its fates are what each later stage did with it, with the requests made for it. Row ids
derive from parents and stage, so a question that two rounds ask may give rows of one id: a row's key is its
id and its round.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from posixpath import basename
from typing import Any, NamedTuple

import pyarrow.compute as pc

from pipeline.errors import SelfloopError
from pipeline.rundir import RoundKey, RunDir, round_name
from pipeline.stage import ANSWER, LABELS, PAIRS, PROPOSE, PUBLISH, RESUMED, STAGES
from pipeline.store import files, lookup
from pipeline.store.lookup import RowRef

MIN_PREFIX = 6
MAX_DESCENDANTS = 200  # links below the traced row; a fate's `children` has the ids of all
_NO_ANCESTORS = (PUBLISH, PAIRS, LABELS)  # no other stage's rows are made from theirs
Key = tuple[str, RoundKey | None]
Message = dict[str, str]


@dataclass(slots=True)
class Fate:
    """What one stage did with a row; `outcome` is kept, dropped, failed, or under way (asked, unfinished)."""

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
    """A published row, by its kind: prompt and completion, with a label if it is right or wrong; prompt,
    chosen and rejected; turns; or text.
    """

    folder: str
    row_id: str
    prompt: list[Message] = field(default_factory=list)
    tokens_prompt: int = 0
    completion: list[Message] = field(default_factory=list)
    tokens_completion: int = 0
    label: bool | None = None
    chosen: list[Message] = field(default_factory=list)
    tokens_chosen: int = 0
    rejected: list[Message] = field(default_factory=list)
    tokens_rejected: int = 0
    turns: list[dict[str, Any]] = field(default_factory=list)
    tokens_context: int = 0
    tokens_loss: int = 0
    text: str = ""
    tokens_text: int = 0


@dataclass(slots=True)
class Link:
    """One row, made by `stage` in `round` (None: read with the tasks); `asked` marks the traced row."""

    id: str
    stage: str
    round: RoundKey | None
    parents: list[str]
    payload: dict[str, Any]
    asked: bool = False
    fates: list[Fate] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)


def trace(run: RunDir, row_id: str, round_: RoundKey | None = None) -> list[Link]:
    """Return the row's ancestors from the seed task on, the row itself and its descendants, parents first.

    `row_id` is the id of a stage's row or of a published example, or an unambiguous prefix. A row made in
    several rounds is traced in all of them, or in `round_` only. Raises SelfloopError if there is none.
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
        steps = files.glob(files.join(self.folder, "steps"), "*")
        folders = [files.join(self.folder, "rows"), *steps, self.folder]
        return [path for folder in folders for path in files.glob(folder, "part-*.arrow")]


class _Node(NamedTuple):
    place: _Place
    row: RowRef


class _Trace:
    """One search. It reads id columns only, and payloads, rejects and requests just for the rows it finds."""

    def __init__(self, run: RunDir, round_: RoundKey | None) -> None:
        self._run = run
        sets = [basename(folder.rstrip("/")) for folder in files.glob(run.tasks("sets"), "*")]
        tasks = ("train", "held_out", "demonstrations", *(f"sets/{name}" for name in sets), "rejected")
        self._tasks = [_Place(f"tasks/{name}", None, run.tasks(name)) for name in tasks]
        stages = [PROPOSE, *STAGES, *_NO_ANCESTORS, ANSWER, "evaluate", RESUMED]
        stages += [f"{stage}-{s}" for s in sets for stage in (ANSWER, "evaluate")]
        self._rounds = {
            r: [_Place(stage, r, run.stage(r, stage)) for stage in stages]
            for r in run.rounds()
            if round_ is None or r == round_
        }
        self._nodes: dict[Key, _Node] = {}  # in the order of the links

    def links(self, row_id: str) -> list[Link]:
        asked = self._resolve(row_id)
        for key in asked:
            self._ancestors(key)
            self._descendants(key)
        links = {
            key: Link(key[0], place.stage, key[1], row.parents, self._payload(key), key in asked)
            for key, (place, row) in self._nodes.items()
        }
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
                    link.published += _published(self._run, fate.round, link.id)
            if link.stage in (PAIRS, LABELS) and link.round is not None:
                link.published += _published(self._run, link.round, link.id)
        return list(links.values())

    def _resolve(self, row_id: str) -> list[Key]:
        matches: dict[str, list[_Place]] = {}
        for place in self._places():
            for path in place.kept:
                for i in lookup.with_prefix(path, row_id):
                    matches.setdefault(i, []).append(place)
        if row_id in matches:
            return self._take(row_id, matches[row_id])
        if not matches and (example := re.fullmatch(r"(.+)-\d+", row_id)):
            # A row's second and further examples are published as <row id>-1, -2, ...
            return self._resolve(example[1])
        if matches and len(row_id) >= MIN_PREFIX:
            if len(matches) == 1:
                return self._take(*matches.popitem())
            few = ", ".join(sorted(matches)[:5])
            more = f" and {len(matches) - 5} more" if len(matches) > 5 else ""
            raise SelfloopError(
                f"{row_id!r} begins the ids of {len(matches)} rows of {self._run.root}: {few}{more}. "
                "Give more characters."
            )
        short = f" Give the id, or at least its first {MIN_PREFIX} characters." if matches else ""
        searched = self._searched() or "nothing, the run has no rows yet"
        raise SelfloopError(f"no row {row_id!r} in {self._run.root}.{short} Searched: {searched}.")

    def _searched(self) -> str:
        stages: dict[str, list[str]] = {}
        for place in self._places():
            if place.kept:
                where = "tasks" if place.round is None else f"round {place.round}"
                stages.setdefault(where, []).append(place.stage.removeprefix("tasks/"))
        return "; ".join(f"{where} ({', '.join(names)})" for where, names in stages.items())

    def _take(self, row_id: str, places: list[_Place]) -> list[Key]:
        """Make nodes of the row's first occurrence: as a task, else once in each round."""
        first: dict[RoundKey | None, _Place] = {}
        for place in places:
            first.setdefault(place.round, place)
        chosen = [first[None]] if None in first else list(first.values())
        for place in chosen:
            self._find(place, partial(lookup.with_ids, ids=[row_id]), 1)
        return [(row_id, place.round) for place in chosen]

    def _ancestors(self, key: Key) -> None:
        """Add the row's ancestors, walking back from its stage: its own round first, then earlier ones."""
        row_id, round_ = key
        known, missing = {row_id}, set(self._nodes[key].row.parents)
        ancestors: list[Key] = []
        for place in reversed(self._places()):
            if place.stage in _NO_ANCESTORS or _order(place.round) > _order(round_):
                continue
            while missing and (new := self._find(place, partial(lookup.with_ids, ids=missing))):
                ancestors += new
                known |= {k[0] for k in new}
                missing |= {parent for k in new for parent in self._nodes[k].row.parents}
                missing -= known
            missing -= {k[0] for k in self._nodes if k[1] == place.round}  # the trace of another round
        if round_ is not None and not any(k[1] is None for k in ancestors):
            # A method may make a row whose parents are not stored; its payload still names the task.
            task = self._payload(key).get("task_id")
            if isinstance(task, str):
                for place in self._tasks:
                    ancestors += self._find(place, partial(lookup.with_ids, ids=[task]))
        moved = {k: self._nodes.pop(k) for k in reversed(ancestors)}
        node = self._nodes.pop(key)
        tasks = {k: n for k, n in moved.items() if k[1] is None}
        self._nodes = {**tasks, **self._nodes, **moved, key: node}

    def _descendants(self, key: Key) -> None:
        for round_ in [key[1]] if key[1] is not None else list(self._rounds):
            frontier = {key[0]}
            for place in self._rounds[round_]:
                while new := self._find(place, partial(lookup.with_parents, ids=frontier), MAX_DESCENDANTS):
                    frontier |= {k[0] for k in new}

    def _find(
        self, place: _Place, search: Callable[[str], Iterator[RowRef]], limit: int | None = None
    ) -> list[Key]:
        """Add the rows that `search` finds in a place; return the keys of the new ones, at most `limit`."""
        new: list[Key] = []
        for path in place.kept:
            for row in search(path):
                key = (row.id, place.round)
                if (row.id, None) in self._nodes or key in self._nodes:
                    continue
                if limit is not None and len(new) >= limit:
                    return new
                self._nodes[key] = _Node(place, row)
                new.append(key)
        return new

    def _payload(self, key: Key) -> dict[str, Any]:
        return lookup.payload(self._nodes[key].row.path, key[0])

    def _places(self) -> list[_Place]:
        return [*self._tasks, *(place for places in self._rounds.values() for place in places)]


def _order(round_: RoundKey | None) -> int:
    """Tasks (None) come before the base model, and that before all rounds."""
    return -2 if round_ is None else -1 if isinstance(round_, str) else round_


def _add_fates(run: RunDir, place: _Place, links: dict[str, Link]) -> None:
    """Add what the stage in `place` did with each of the rows (by id) to their links."""
    new_fate = partial(Fate, place.stage, place.round if place.round is not None else 0)
    kept = place.kept
    fates: dict[str, Fate] = {}
    committed = {basename(path) for path in kept}
    for kind in ("dropped", "failed"):
        for path in files.glob(files.join(place.folder, kind), "part-*.arrow"):
            if (name := basename(path)) in committed:  # else a kill left it
                for r in lookup.rejects(path, links):
                    step = _step(run, place, name)
                    fates[r["id"]] = new_fate(kind, step, r["reason"], r["detail"], r["raw"])
    last_step = set(files.glob(place.folder, "part-step-*.arrow"))
    for path in kept:
        by_step = basename(path).startswith("part-step-")
        if by_step and path not in last_step:
            continue
        for i in lookup.inputs_among(path, links.keys() - fates.keys()):
            # Among a step's inputs are the rows that the stage itself made.
            if not by_step or (links[i].stage, links[i].round) != (place.stage, place.round):
                fates[i] = new_fate("kept")
    for path in files.glob(files.join(place.folder, "requests"), "*.jsonl"):
        for record in lookup.requests_of(path, links):
            requests = fates.setdefault(record["row"], new_fate("under way")).requests
            if record["key"] not in {r["key"] for r in requests}:
                requests.append(record)
    for path in kept:
        for child in lookup.with_parents(path, fates):
            for fate in (fates[parent] for parent in child.parents if parent in fates):
                if fate.outcome == "kept" and child.id not in fates and child.id not in fate.children:
                    fate.children.append(child.id)
    for i, fate in fates.items():
        fate.requests.sort(key=lambda r: r.get("time", 0))
        links[i].fates.append(fate)


def _step(run: RunDir, place: _Place, part: str) -> str:
    match = re.match(r"part-step-(\d+)-", part)
    if not match:
        return ""
    manifest, number = run.manifest(place.folder), int(match[1])
    return manifest.steps[number].name if manifest and number < len(manifest.steps) else f"step {number}"


def _published(run: RunDir, round_: RoundKey, row_id: str) -> Iterable[Published]:
    columns = {f.name for f in fields(Published)} - {"folder"}
    for kind in files.glob(run.path("datasets"), "*"):
        folder = files.join(kind, f"round-{round_name(round_)}")
        for path in files.glob(files.join(folder, "train"), "data-*.arrow"):
            for batch in lookup.read_columns(path, columns):
                mask = pc.match_substring_regex(batch["row_id"], f"^{re.escape(row_id)}(-\\d+)?$")
                for row in batch.filter(mask).to_pylist():
                    yield Published(folder, **row)
