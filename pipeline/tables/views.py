"""The tables of a run: one for each stage, and others over all stages. Takes no lock: the run may go on.

A stage that is under way yields what it has written so far. `round` is a number, and null for the base model.
"""

from collections.abc import Callable, Iterator
from functools import partial
from posixpath import basename
from typing import NamedTuple

import orjson
import pyarrow as pa

from pipeline import overview
from pipeline.errors import DamagedError
from pipeline.payload import COUNT, TEXT, TEXTS
from pipeline.rundir import RoundKey, RunDir, round_name
from pipeline.store import files, lookup, request_log
from pipeline.store.manifest import Manifest
from pipeline.tables.columns import Record, Table

BATCH, BATCH_BYTES = 1000, 32 << 20  # at most this many records, or so many bytes of them, become a batch
ROW = {"id": TEXT, "parents": TEXTS}
REJECT = {**ROW, "reason": TEXT, "detail": TEXT, "raw": TEXT}
AT_ONCE = 50  # rows that are decoded from Arrow together
REJECTS = ("dropped", "failed")
# A payload key with the name of one of these becomes the column payload_<key>.
RESERVED = {"round", "stage", "set", *REJECT}
STAGE_FACTS = (
    *("state", "in", "done", "out", "prompt_tokens", "completion_tokens"),
    *("requests_sent", "requests_from_log", "seconds", "model", "passes_through"),
)

VIEWS = {
    "stages": "a line for each stage of a round: rows in and out, tokens, seconds",
    "tasks": "the tasks, by set",
    "dropped": "the dropped rows of all stages, with reason",
    "failed": "the failed rows of all stages, with error",
    "requests": "all requests and what the model answered",
    "published": "the published examples, by kind of dataset",
}

Sized = tuple[Record, int]  # a record and its bytes, about


class File(NamedTuple):
    """A stored file (or folder of logs), and the columns that all of its records share."""

    path: str
    shared: Record


def stage_table(run: RunDir, stage: str, rounds: list[RoundKey], kind: str | None = None) -> Table:
    """Return the rows that a stage passed on in some rounds, or those it `dropped` or `failed`."""
    found = [
        File(path, {"round": number(r)})
        for r in rounds
        for path in (_kept(run, r, stage) if kind is None else _rejects(run, r, stage, kind))
    ]
    return _table(stage, found, {"round": COUNT, **(REJECT if kind else ROW)}, _rows)


def tasks_table(run: RunDir, kind: str | None = None) -> Table:
    """Return the tasks of every set, or those that could not be read (kind "failed")."""
    if kind is not None:
        found = [File(path, {}) for path in files.glob(files.join(run.tasks("rejected"), kind), "*.arrow")]
        return _table("tasks", found, REJECT, _rows)
    recipe = overview.recipe_of(run)
    sets = ("train", "held_out", "demonstrations", *(f"sets/{n}" for n in overview.evaluation_sets(recipe)))
    manifests = {which: run.manifest(run.tasks(which)) for which in sets}
    found = [
        File(path, {"set": which.removeprefix("sets/")})
        for which, manifest in manifests.items()
        for path in (_parts(run, manifest) if manifest else ())
    ]
    return _table("tasks", found, {"set": TEXT, **ROW}, _rows)


def view_names(run: RunDir) -> list[str]:
    """Return the names of a run's views: those of VIEWS, then its stages."""
    stages = dict.fromkeys(stage for r in run.rounds() for stage in stages_in(run, r))
    return [*VIEWS, *(stage for stage in stages if stage not in VIEWS)]


def view(run: RunDir, name: str) -> Table:
    """Return one of `view_names`."""
    if name == "stages":
        first = {"round": COUNT, "stage": TEXT, "state": TEXT}
        return Table(name, lambda: iter([_stage_records(run)]), first)
    if name == "tasks":
        return tasks_table(run)
    if name == "published":
        return _table(name, list(_published(run)), {"dataset": TEXT, "round": COUNT}, _examples)
    if name not in (*REJECTS, "requests"):
        return stage_table(run, name, run.rounds())
    found = [
        File(path, {"round": number(r), "stage": stage})
        for r in run.rounds()
        for stage in stages_in(run, r)
        for path in (_requests(run, r, stage) if name == "requests" else _rejects(run, r, stage, name))
    ]
    where = {"round": COUNT, "stage": TEXT}
    if name == "requests":
        return _table(name, found, where, _log)
    return _table(name, found, where | REJECT, _rows)


def number(round_: RoundKey) -> int | None:
    """Return a round as tables have it: its number, None for the base model."""
    return round_ if isinstance(round_, int) else None


def stages_in(run: RunDir, round_: RoundKey) -> list[str]:
    """Return the stages that have rows, requests or rejects in a round, in the order they ran."""
    present = {basename(p.rstrip("/")) for p in files.glob(run.path("rounds", round_name(round_)), "*")}
    present -= set(overview.TRAININGS)
    return [name for name in overview.ROUND_STAGES if name in present] + sorted(
        present - set(overview.ROUND_STAGES)
    )


def _kept(run: RunDir, round_: RoundKey, stage: str) -> list[str]:
    folder = run.stage(round_, stage)
    manifest = run.manifest(folder)
    return _parts(run, manifest) if manifest else overview.row_parts(folder)


def _parts(run: RunDir, manifest: Manifest) -> list[str]:
    """Return a finished stage's parts. Raises DamagedError if one is missing: its rows would go unnoticed."""
    paths = [run.path(part.path) for part in manifest.parts]
    if lost := next((path for path in paths if not files.exists(path)), None):
        raise DamagedError.of(lost, "missing, but a manifest.json lists it")
    return paths


def _rejects(run: RunDir, round_: RoundKey, stage: str, kind: str) -> list[str]:
    return files.glob(files.join(run.stage(round_, stage), kind), "*.arrow")


def _requests(run: RunDir, round_: RoundKey, stage: str) -> list[str]:
    return files.glob(run.stage(round_, stage), "requests")


def _published(run: RunDir) -> Iterator[File]:
    for round_ in run.rounds():
        for dataset in overview.published(run, round_):
            for path in files.glob(files.join(dataset["path"], "train"), "*.arrow"):
                yield File(path, {"dataset": dataset["kind"], "round": number(round_)})


def _stage_records(run: RunDir) -> list[Record]:
    records = []
    for r in overview.overview(run)["rounds"]:
        for stage, facts in r["stages"].items():
            counts = {key: facts[key] for key in STAGE_FACTS}
            dropped = [facts["dropped"], *(step["dropped"] for step in facts["steps"])]
            counts["dropped"] = sum(sum(reasons.values()) for reasons in dropped)
            counts["failed"] = sum(facts["failed"].values())
            records.append({"round": number(r["round"]), "stage": stage, **counts})
    return records


def _table(
    name: str, found: list[File], first: dict[str, pa.DataType], read: Callable[[str], Iterator[Sized]]
) -> Table:
    return Table(name, partial(_batches, found, read), first)


def _batches(found: list[File], read: Callable[[str], Iterator[Sized]]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    held = 0
    for file in found:
        for record, size in read(file.path):
            batch.append(file.shared | record)
            held += size
            if len(batch) >= BATCH or held >= BATCH_BYTES:
                yield batch
                batch, held = [], 0
    if batch:
        yield batch


def _rows(path: str) -> Iterator[Sized]:
    """Yield rows or rejects, each with its payload as columns."""
    for batch in lookup.read_columns(path, {"payload", *REJECT}):
        for record in _one_by_one(batch):
            text = record.pop("payload")
            payload = {f"payload_{k}" if k in RESERVED else k: v for k, v in orjson.loads(text).items()}
            yield record | payload, len(text) + len(record.get("raw") or "")


def _examples(path: str) -> Iterator[Sized]:
    for batch in lookup.read_columns(path):
        size = batch.nbytes // max(1, batch.num_rows)
        yield from ((record, size) for record in _one_by_one(batch))


def _log(folder: str) -> Iterator[Sized]:
    for record in request_log.records(folder):
        yield record, len(orjson.dumps(record))


def _one_by_one(batch: pa.RecordBatch) -> Iterator[Record]:
    for at in range(0, batch.num_rows, AT_ONCE):
        yield from batch.slice(at, AT_ONCE).to_pylist()
