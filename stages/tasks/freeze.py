"""Read tasks and demonstrations once, split off the held-out set, and freeze all of it in the run."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain

import numpy as np

from pipeline.config import Recipe, Source
from pipeline.console import progress as console
from pipeline.errors import DataError, StaleError
from pipeline.ids import ID_CHARS, digest, unit_interval
from pipeline.many_ids import each, unit_intervals
from pipeline.prompts import Prompts, using
from pipeline.rows import Failed, Kept, Row
from pipeline.rundir import RunDir
from pipeline.store import files, parts
from pipeline.store.manifest import Manifest, PartEntry
from pipeline.store.spool import Rows
from stages.steps import decontaminate
from stages.steps.asking import mark_asked_for
from stages.steps.decontaminate import Asked
from stages.steps.samples import demonstration
from stages.tasks import told
from stages.tasks.read import read_demonstrations, read_tasks
from stages.tasks.records import BadRow, TaskSet
from stages.tasks.split import same_question, split_held_out

ROWS_PER_PART = 5000
_EMPTY = TaskSet(Rows(), [], 0, "")


def freeze(run: RunDir, recipe: Recipe) -> None:
    """Write the folders below tasks/ unless the run has them. The manifest of tasks/ itself comes last.

    Raises DataError if a source is unusable or leaves nothing to train on, and StaleError if the run was
    started with other evaluate.sets.
    """
    if run.manifest(run.path("tasks")) is not None:
        _check_sets(run, recipe)
    else:
        with using(Prompts.of(recipe)):  # environments render the rules of their games
            _freeze(run, recipe)


def _freeze(run: RunDir, recipe: Recipe) -> None:
    for folder in ("train", "held_out", "sets", "demonstrations", "rejected", "replay", "replay_held_out"):
        files.remove(run.tasks(folder))
    tasks, candidates, held_out = _read_split(recipe)
    sets = {
        name: read_tasks(source, source_seed(recipe.seed, f"sets/{name}"), f"evaluate.sets.{name}")
        for name, source in recipe.evaluate.sets.items()
    }
    evaluated = {same_question(row) for task_set in sets.values() for row in task_set.rows}
    unlike = candidates.where(lambda row: same_question(row) not in evaluated) if evaluated else candidates
    if not unlike:
        raise DataError("evaluate.sets contains every task to train on. Provide more tasks, or another set.")
    asked = [held_out, *(task_set.rows for task_set in sets.values())]
    train = _publishable(unlike, asked, recipe)
    demonstrations = _freeze_demonstrations(run, recipe)
    marked = partial(_with_marks, recipe)
    entries = _write(run, "train", marked(train)) + _write(run, "held_out", marked(held_out))
    replay = _freeze_replay(run, recipe, chain(*asked))
    for name, task_set in sets.items():
        _write(run, f"sets/{name}", marked(task_set.rows), _fingerprint(recipe.evaluate.sets[name]))
    read = {"tasks": tasks, "demonstrations": demonstrations, "train.cpt.replay": replay}
    rejected = [(name, bad) for name, s in [*read.items(), *sets.items()] for bad in s.rejected]
    _write_rejected(run.tasks("rejected"), rejected)
    read_in_all = len(tasks.rows) + (len(held_out) if recipe.held_out.source else 0)
    dropped = {
        "duplicate": tasks.duplicates,
        "equal_to_held_out": read_in_all - len(candidates) - len(held_out),
        "equal_to_evaluation_set": len(candidates) - len(unlike),
        "leaks_held_out": len(unlike) - len(train),
    }
    manifest = Manifest(
        stage="tasks",
        round=0,
        method=recipe.tasks.source,
        fingerprint=digest([recipe.tasks.model_dump(mode="json"), recipe.held_out.model_dump(mode="json")]),
        rows_in=read_in_all + len(tasks.rejected) + tasks.duplicates,
        rows_done=len(train) + len(held_out),
        rows_dropped={reason: n for reason, n in dropped.items() if n},
        rows_failed={"bad_row": len(tasks.rejected)} if tasks.rejected else {},
        rows_out=len(train) + len(held_out),
        parts=entries,
    )
    manifest.write(run.path("tasks"))
    counts = [f"{len(train)} to train on", f"{len(held_out)} held out"]
    counts += [f"{len(demonstrations.rows)} demonstrations"] if recipe.demonstrations else []
    counts += [f"{len(task_set.rows)} of {name} to evaluate with" for name, task_set in sets.items()]
    _report(manifest, counts, len(rejected), run.tasks("rejected"))
    for note in (note for task_set in (*read.values(), *sets.values()) for note in task_set.notes):
        console.print(f"  {note}", markup=False)


def _publishable(rows: Rows, evaluated: list[Rows], recipe: Recipe) -> Rows:
    """Return the tasks whose answers publishing would not drop for the question alone; asking the others is
    in vain. Raises DataError if none is left.
    """
    ngram = recipe.held_out.ngram
    searches = [
        decontaminate.search_for((Asked.of(row.payload) for row in some), ngram) for some in evaluated
    ]
    found = rows.where(lambda row: not any(s.leak(Asked.of(row.payload), "") for s in searches))
    if not found:
        raise DataError(
            f"each of the {len(rows)} tasks to train on shares {ngram} consecutive words with a held-out "
            "question. Provide other questions, or raise held_out.ngram."
        )
    return found


def _with_marks(recipe: Recipe, rows: Iterable[Row]) -> Iterator[Row]:
    """Note on each row which words mark its answer, unless they are the default ones."""
    for row in rows:
        if recipe.answer_marks:
            row.payload["answer_marks"] = recipe.answer_marks
        yield row


def source_seed(seed: int, which: str) -> int:
    """Return the seed of a source that generates its rows.

    Item i of a reasoning_gym dataset depends on seed + i, so the seeds of two sources must lie far apart.
    """
    return int(unit_interval(seed, "source", which) * 2**31)


def _check_sets(run: RunDir, recipe: Recipe) -> None:
    for name, source in recipe.evaluate.sets.items():
        frozen = run.manifest(run.tasks(f"sets/{name}"))
        if frozen is None or frozen.fingerprint != _fingerprint(source):
            text = f"evaluate.sets.{name} changed after tasks were read. Use a new run directory"
            raise StaleError(f"{run.root}: {text}.")


def _read_split(recipe: Recipe) -> tuple[TaskSet, Rows, Rows]:
    """Return what was read of all tasks, those to train on and the held-out ones.

    With held_out.source its questions are held out: with a count, those of the smallest hashes. Every task
    that reads otherwise is then trained on. Raises DataError if none is left, and if a question has the id of
    another task.
    """
    tasks = read_tasks(recipe.tasks, source_seed(recipe.seed, "tasks"))
    settings = recipe.held_out
    if settings.source is None:
        return tasks, *split_held_out(tasks.rows, settings, recipe.seed)
    other = read_tasks(settings.source, source_seed(recipe.seed, "held_out"), "held_out.source")
    order = np.argsort(unit_intervals(other.rows.ids(), recipe.seed, "held_out"), kind="stable")
    questions = other.rows.at(np.sort(order[: settings.count]))
    search = decontaminate.search_for((Asked.of(row.payload) for row in questions), settings.ngram)
    same = (search.is_held_out(Asked.of(row.payload)) for row in tasks.rows)
    repeats = np.fromiter(same, bool, len(tasks.rows))
    train, chosen = tasks.rows.at(~repeats), set(each(questions.ids()))
    if clash := sum(row_id in chosen for row_id in each(train.ids())):
        raise DataError(f"held_out.source has {clash} of the ids of the tasks. Provide other ids.")
    if not train:
        raise DataError("held_out.source contains every task. Provide other questions.")
    read = TaskSet(
        tasks.rows,
        tasks.rejected + other.rejected,
        tasks.duplicates + other.duplicates,
        tasks.where,
        (*tasks.notes, *other.notes, *told.about_held_out(tasks.rows.at(repeats))),
    )
    return read, train, questions


def _freeze_demonstrations(run: RunDir, recipe: Recipe) -> TaskSet:
    read = _EMPTY
    if recipe.demonstrations:
        seed = source_seed(recipe.seed, "demonstrations")
        read = read_demonstrations(recipe.demonstrations, seed, recipe.tasks)
    boxed = mark_asked_for(Prompts.of(recipe)) == "box"

    def answers() -> Iterator[Row]:
        for row in _with_marks(recipe, read.rows):
            row.payload["text"] = demonstration(row.payload, boxed)  # from here on an answer like any other
            yield row

    _write(run, "demonstrations", answers())
    if recipe.tasks.columns.answer is None:
        return read
    written = run.rows(run.tasks("demonstrations"))
    return read._replace(notes=(*read.notes, *told.about_answers(read.where, written)))


def _freeze_replay(run: RunDir, recipe: Recipe, asked: Iterable[Row]) -> TaskSet:
    """Write tasks/replay and tasks/replay_held_out if training replays general text.

    Texts that leak one of the `asked` questions are returned as rejected.
    """
    settings = recipe.train.cpt
    if recipe.train.kind != "cpt" or settings.replay is None:
        return _EMPTY
    general = read_tasks(settings.replay, source_seed(recipe.seed, "replay"), "train.cpt.replay")
    search = decontaminate.search_for((Asked.of(row.payload) for row in asked), recipe.held_out.ngram)
    leaking = []

    def is_clean(row: Row) -> bool:
        if leak := search.leak(row.payload["question"], ""):
            problem = f"contains a held-out question: {leak.detail}"
            leaking.append(BadRow(row.payload["source"]["where"], problem, row.payload["question"]))
        return leak is None

    clean = general.rows.where(is_clean)
    held_out = unit_intervals(clean.ids(), recipe.seed, "replay") < settings.replay_held_out
    if held_out.all() or not held_out.any():
        raise DataError(
            f"train.cpt.replay_held_out {settings.replay_held_out} of {len(clean)} general "
            f"texts holds out {held_out.sum()}; expected some, but not all."
        )
    _write(run, "replay", clean.at(~held_out))
    _write(run, "replay_held_out", clean.at(held_out))
    return general._replace(rejected=general.rejected + leaking)


def _report(manifest: Manifest, counts: list[str], bad_rows: int, folder: str) -> None:
    left_out = ", ".join(f"{k} {n}" for k, n in (manifest.dropped_in_all() | manifest.rows_failed).items())
    text = f"tasks: {', '.join(counts)}{f' ({left_out} left out)' if left_out else ''}"
    if bad_rows:
        text += f"\n  {bad_rows} bad rows skipped (on_bad_row: skip); see {folder}/failed"
    console.print(text, markup=False)


def _fingerprint(source: Source) -> str:
    return digest(source.model_dump(mode="json", exclude_defaults=True))


def _write(run: RunDir, which: str, rows: Iterable[Row], fingerprint: str = "") -> list[PartEntry]:
    folder = run.tasks(which)
    out = parts.PartWriter(folder, folder, "00000")
    for row in rows:
        out.add(row, Kept([row]))
        if len(out) >= ROWS_PER_PART:
            out.flush()
    out.flush()
    entries = []
    for path in files.glob(folder, "part-*.arrow"):
        name = path.removeprefix(run.root).lstrip("/")
        entries.append(PartEntry(path=name, rows=parts.counts_of(path).out, sha256=parts.sha256(path)))
    written = sum(entry.rows for entry in entries)
    Manifest(
        stage=f"tasks/{which}",
        round=0,
        method="",
        fingerprint=fingerprint or digest([e.sha256 for e in entries]),
        rows_in=written,
        rows_done=written,
        rows_out=written,
        parts=entries,
    ).write(folder)
    return entries


def _write_rejected(folder: str, rejected: list[tuple[str, BadRow]]) -> None:
    out = parts.PartWriter(folder, folder, "00000")
    for name, bad in rejected:
        row = Row(digest([name, bad.where])[:ID_CHARS], {"where": bad.where})
        out.add(row, Failed("bad_row", f"{bad.where}: {bad.problem}", bad.raw))
        if len(out) >= ROWS_PER_PART:
            out.flush()
    out.flush()
