"""Reads tasks and demonstrations once, splits off the held-out set, and freezes all of it in the run directory."""

from collections.abc import Iterable

from pipeline.config import Recipe, Source
from pipeline.console import console
from pipeline.errors import DataError, StaleError
from pipeline.ids import digest, unit_interval
from pipeline.rows import Failed, Kept, Row
from pipeline.rundir import RunDir
from pipeline.store import files, parts
from pipeline.store.manifest import Manifest, PartEntry
from stages.steps import decontaminate
from stages.steps.samples import demonstration
from stages.tasks.read import TaskSet, read_demonstrations, read_tasks
from stages.tasks.records import BadRow
from stages.tasks.split import same_question, split_held_out

ROWS_PER_PART = 5000


def freeze(run: RunDir, recipe: Recipe) -> None:
    """Write tasks/{train,held_out,sets,demonstrations,rejected}, unless the run has them. The manifests come last."""
    if run.manifest(run.path("tasks")) is not None:
        frozen = {name: run.manifest(run.tasks(f"sets/{name}")) for name in recipe.evaluate.sets}
        if other := [
            name
            for name, source in recipe.evaluate.sets.items()
            if frozen[name] is None or frozen[name].fingerprint != _mark(source)
        ]:
            raise StaleError(
                f"{run.root}: its tasks were read without evaluate.sets {', '.join(other)} as it is now. Take a new run directory."
            )
        return
    for folder in ("train", "held_out", "sets", "demonstrations", "rejected", "replay", "replay_held_out"):
        files.remove(run.tasks(folder))
    tasks = read_tasks(recipe.tasks, source_seed(recipe.seed, "tasks"))
    elsewhere = _from_elsewhere(recipe)
    tasks, (train, held_out) = (
        (_with(tasks, elsewhere), (tasks.rows, elsewhere.rows))
        if elsewhere
        else (tasks, split_held_out(tasks.rows, recipe.held_out, recipe.seed))
    )
    sets = {
        name: read_tasks(source, source_seed(recipe.seed, f"sets/{name}"), f"evaluate.sets.{name}")
        for name, source in recipe.evaluate.sets.items()
    }
    equal = len(tasks.rows) - len(train) - len(held_out)
    asked = {same_question(row) for found in sets.values() for row in found.rows}
    train, whole = [row for row in train if same_question(row) not in asked], len(train)
    if not train:
        raise DataError(
            "no task is left to learn from: evaluate.sets holds all of them. Give a set of other questions, or more tasks."
        )
    demonstrations = (
        read_demonstrations(recipe.demonstrations, source_seed(recipe.seed, "demonstrations"), recipe.tasks)
        if recipe.demonstrations
        else None
    )
    entries = _write(run, "train", train) + _write(run, "held_out", held_out)
    for row in demonstrations.rows if demonstrations else []:
        row.payload["text"] = demonstration(row.payload)  # from here on it is an answer like any other
    _write(run, "demonstrations", demonstrations.rows if demonstrations else [])
    general = _freeze_replay(
        run, recipe, [*held_out, *(row for found in sets.values() for row in found.rows)]
    )
    for name, found in sets.items():
        _write(run, f"sets/{name}", found.rows, _mark(recipe.evaluate.sets[name]))
    _write_rejected(
        run,
        [
            ("tasks", tasks),
            *([("demonstrations", demonstrations)] if demonstrations else []),
            ("train.cpt.replay", general),
            *sets.items(),
        ],
    )
    dropped = {
        "duplicate": tasks.duplicates,
        "equal_to_held_out": equal,
        "equal_to_evaluation_set": whole - len(train),
    }
    manifest = Manifest(
        stage="tasks",
        round=0,
        method=recipe.tasks.source,
        fingerprint=digest([recipe.tasks.model_dump(mode="json"), recipe.held_out.model_dump(mode="json")]),
        rows_in=len(tasks.rows) + len(tasks.rejected) + tasks.duplicates,
        rows_done=len(train) + len(held_out),
        rows_dropped={k: n for k, n in dropped.items() if n},
        rows_failed={"bad_row": len(tasks.rejected)} if tasks.rejected else {},
        rows_out=len(train) + len(held_out),
        parts=entries,
    )
    manifest.write(run.path("tasks"))
    _report(run, manifest, len(train), len(held_out), demonstrations, sets)


def source_seed(seed: int, which: str) -> int:
    """Return the seed of a source that makes its rows. Item i of a reasoning_gym dataset depends on seed + i, so seeds must lie far apart."""
    return int(unit_interval(seed, "source", which) * 2**31)


def _from_elsewhere(recipe: Recipe) -> TaskSet | None:
    """Return the questions of held_out.source, if there is one: those of the smallest hashes, when count says how many."""
    settings = recipe.held_out
    if settings.source is None:
        return None
    found = read_tasks(settings.source, source_seed(recipe.seed, "held_out"), "held_out.source")
    order = sorted(found.rows, key=lambda row: unit_interval(recipe.seed, "held_out", row.id))
    chosen = {row.id for row in order[: settings.count]}
    return found._replace(rows=[row for row in found.rows if row.id in chosen])


def _with(tasks: TaskSet, questions: TaskSet) -> TaskSet:
    """Return both as one set. Raises DataError when a question has the id of a task."""
    if twins := {row.id for row in tasks.rows} & {row.id for row in questions.rows}:
        raise DataError(
            f"held_out.source has {len(twins)} of the tasks in it: what is learnt from would be asked about. Give other questions."
        )
    return tasks._replace(
        rows=tasks.rows + questions.rows,
        rejected=tasks.rejected + questions.rejected,
        duplicates=tasks.duplicates + questions.duplicates,
    )


def _freeze_replay(run: RunDir, recipe: Recipe, asked: list[Row]) -> TaskSet:
    """Write tasks/replay and tasks/replay_held_out, for a training that replays general text. What gives a question away is rejected."""
    settings = recipe.train.cpt
    if recipe.train.kind != "cpt" or settings.replay is None:
        return TaskSet([], [], 0, "")
    found = read_tasks(settings.replay, source_seed(recipe.seed, "replay"), "train.cpt.replay")
    search = decontaminate.search_for((row.payload["question"] for row in asked), recipe.held_out.ngram)
    leaks = {row.id: leak for row in found.rows if (leak := search.leak(row.payload["question"], ""))}
    texts = [row for row in found.rows if row.id not in leaks]
    held = {
        row.id for row in texts if unit_interval(recipe.seed, "replay", row.id) < settings.replay_held_out
    }
    if not 0 < len(held) < len(texts):
        raise DataError(
            f"train.cpt.replay_held_out {settings.replay_held_out} of {len(texts)} general texts holds out {len(held)}; expected some, and not all."
        )
    _write(run, "replay", [row for row in texts if row.id not in held])
    _write(run, "replay_held_out", [row for row in texts if row.id in held])
    bad = [
        BadRow(
            row.payload["source"]["where"],
            f"holds a held-out question: {leaks[row.id].detail}",
            row.payload["question"],
        )
        for row in found.rows
        if row.id in leaks
    ]
    return found._replace(rejected=found.rejected + bad)


def _mark(source: Source) -> str:
    return digest(source.model_dump(mode="json", exclude_defaults=True))


def _write(run: RunDir, which: str, rows: list[Row], mark: str = "") -> list[PartEntry]:
    folder = run.tasks(which)
    out = parts.PartWriter(folder, folder, "00000")
    for row in rows:
        out.add(row, Kept([row]))
        if len(out) >= ROWS_PER_PART:
            out.flush()
    out.flush()
    entries = [
        PartEntry(
            path=p.path.removeprefix(run.root).lstrip("/"), rows=p.counts.out, sha256=parts.sha256(p.path)
        )
        for p in parts.committed(folder)
    ]
    Manifest(
        stage=f"tasks/{which}",
        round=0,
        method="",
        fingerprint=mark or digest([e.sha256 for e in entries]),
        rows_in=len(rows),
        rows_done=len(rows),
        rows_out=len(rows),
        parts=entries,
    ).write(folder)
    return entries


def _write_rejected(run: RunDir, sets: Iterable[tuple[str, TaskSet]]) -> None:
    folder = run.tasks("rejected")
    out = parts.PartWriter(folder, folder, "00000")
    for name, task_set in sets:
        for bad in task_set.rejected:
            out.add(
                Row(digest([name, bad.where])[:20], {"where": bad.where}),
                Failed("bad_row", f"{bad.where}: {bad.problem}", bad.raw),
            )
    out.flush()


def _report(
    run: RunDir,
    manifest: Manifest,
    train: int,
    held_out: int,
    demonstrations: TaskSet | None,
    sets: dict[str, TaskSet],
) -> None:
    seeds = f", {len(demonstrations.rows)} demonstrations" if demonstrations else ""
    seeds += "".join(f", {len(found.rows)} of {name} to evaluate with" for name, found in sets.items())
    left_out = manifest.dropped_in_all() | manifest.rows_failed
    rest = f" ({', '.join(f'{k} {n}' for k, n in left_out.items())} left out)" if left_out else ""
    console.print(f"tasks: {train} to learn from, {held_out} held out{seeds}{rest}", markup=False)
    bad = len(list(run.rejects(run.tasks("rejected"), "failed")))
    if bad:
        console.print(
            f"  {bad} bad rows were skipped (on_bad_row: skip); see {run.tasks('rejected')}/failed",
            markup=False,
        )
