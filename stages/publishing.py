"""From judged rows to published datasets: duplicates over all rounds, held-out leaks, caps, lengths and pairs are settled here."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.config import Recipe
from pipeline.ids import digest
from pipeline.methods import STAGES, DatasetStep, Method, Stage
from pipeline.publish import DPO, SFT, CardFacts, PairRow, PublishedRow, measure, pair_row, publish, published_row, token_lengths
from pipeline.rows import Dropped, Kept, Row
from pipeline.rundir import RunDir
from pipeline.runner.stage import input_of, run_stage
from pipeline.store import files
from pipeline.store.manifest import Manifest
from stages import decontaminate, dedup, filters, judged, preferences

STAGE = "publish"
TOO_LONG = "too_long_examples"  # payload: which of a row's examples are left out; a row without any other is dropped


async def publish_round(run: RunDir, round_: int, recipe: Recipe, method: Method, tokenizer: Any) -> Manifest:
    """Publish what round `round_` verified (round 0: the real demonstrations) as datasets/sft/round-NNN."""
    source = input_of(run, run.tasks("demonstrations") if round_ == 0 else run.stage(round_, "verify"))
    steps = _steps(run, round_, recipe, method, tokenizer)
    config = {
        "filters": recipe.filters.model_dump(mode="json"),
        "method": method.options.model_dump(mode="json"),
        "max_length": recipe.train.max_length,
        "ngram": recipe.held_out.ngram,
        "earlier": _earlier_digests(run, range(round_), STAGE),
        **_set_digests(run, recipe),
    }
    manifest = await run_stage(run, round_, STAGE, lambda _: Stage(steps=steps, config=config), source, recipe)
    for role in dataset_roles(recipe, method):
        if not _is_wanted(folder := run.dataset(dataset_name(role), round_), manifest):
            continue
        rows = measure(_published(run, round_, recipe, method, role), tokenizer)
        notes = method.notes(run.rows(run.stage(round_, STAGE))) if round_ else []
        notes += [f"Role: {role}"] if role else []
        left_out = sum(len(row.payload.get(TOO_LONG, ())) for row in run.rows(run.stage(round_, STAGE)))
        notes += [f"Examples longer than {recipe.train.max_length} tokens, of rows that have others: {left_out} left out"] if left_out else []
        publish(rows, folder, _facts(run, round_, recipe, method, manifest, notes), recipe.seed)
    return manifest


async def publish_pairs(run: RunDir, round_: int, recipe: Recipe, method: Method, tokenizer: Any) -> Manifest:
    """Pair round `round_`'s right answers with its wrong ones and publish the pairs as datasets/dpo/round-NNN."""
    held_out = [decontaminate.search_for(questions, recipe.held_out.ngram) for questions in _held_out_questions(run, recipe).values()]
    earlier = range(1, round_)
    rules = preferences.Rules(
        recipe.preferences, held_out, tokenizer, recipe.train.max_length, recipe.seed, lambda: _rows_of(run, earlier, preferences.STAGE)
    )
    steps: dict[str, DatasetStep] = {"exact_duplicates": dedup.exact_duplicates(tuple)} if recipe.preferences.distinct else {}
    steps["pair_up"] = preferences.pair_up(method, rules)
    config = {
        "preferences": recipe.preferences.model_dump(mode="json"),
        "method": method.options.model_dump(mode="json"),
        "max_length": recipe.train.max_length,
        "ngram": recipe.held_out.ngram,
        "wrong": judged.WRONG,
        "earlier": _earlier_digests(run, earlier, preferences.STAGE),
        **_set_digests(run, recipe),
    }
    source = judged.judged_answers(run, round_)
    manifest = await run_stage(run, round_, preferences.STAGE, lambda _: Stage(steps=steps, config=config), source, recipe)
    if _is_wanted(folder := run.dataset(DPO.name, round_), manifest):
        rows = measure(_pairs(run, round_, recipe, method), tokenizer, DPO)
        publish(rows, folder, _facts(run, round_, recipe, method, manifest, []), recipe.seed, DPO)
    return manifest


def dataset_roles(recipe: Recipe, method: Method) -> tuple[str, ...]:
    """Return the roles that have a dataset each; ("",) where one dataset holds the examples of all."""
    return method.roles if recipe.train.adapters else ("",)


def dataset_name(role: str) -> str:
    """Return the folder under datasets/ for a role's examples."""
    return f"{SFT.name}-{role}" if role else SFT.name


def _is_wanted(folder: str, manifest: Manifest) -> bool:
    """Tell whether a dataset has to be written: it is not there, or was made of rows that somebody has had made anew since."""
    path = files.join(folder, "manifest.json")
    if not files.exists(path):
        return True
    if files.read_json(path).get("made_of") in (None, "", _made_of(manifest)):  # a dataset of an older version does not say
        return False
    files.remove(folder)
    return True


def _made_of(manifest: Manifest) -> str:
    return digest([part.sha256 for part in manifest.parts])


def _steps(run: RunDir, round_: int, recipe: Recipe, method: Method, tokenizer: Any) -> dict[str, DatasetStep]:
    steps: dict[str, DatasetStep] = {}
    if recipe.filters.drop_duplicates:
        steps["exact_duplicates"] = dedup.exact_duplicates(lambda: _earlier(run, round_))
    for which, questions in _held_out_questions(run, recipe).items():
        steps[which.replace("/", "_")] = decontaminate.held_out(questions, recipe.held_out.ngram)
    steps["max_length"] = _fits(method, tokenizer, recipe.train.max_length)
    cap = getattr(method.options, "keep_per_question", None)
    if cap and round_ > 0:
        steps["cap_per_question"] = filters.cap_per_question(cap, recipe.seed)
    return steps


def _set_digests(run: RunDir, recipe: Recipe) -> dict[str, dict[str, str]]:
    """What the further evaluation sets are, for a stage's fingerprint; nothing where there are none."""
    found = {name: input_of(run, run.tasks(f"sets/{name}")).digest for name in recipe.evaluate.sets}
    return {"sets": found} if found else {}


def _held_out_questions(run: RunDir, recipe: Recipe) -> dict[str, list[str]]:
    """Return the questions of each evaluation set, which are searched for set by set: a template is told by its own questions."""
    sets = ("held_out", *(f"sets/{name}" for name in recipe.evaluate.sets))
    return {which: [row.payload["question"] for row in run.rows(run.tasks(which))] for which in sets}


def _earlier(run: RunDir, round_: int) -> Iterator[tuple[str, str]]:
    """Question and answer of every row that an earlier round published."""
    return ((row.payload["question"], row.payload["text"]) for row in _rows_of(run, range(round_), STAGE))


def _rows_of(run: RunDir, rounds: Iterable[int], stage: str) -> Iterator[Row]:
    for folder in (run.stage(r, stage) for r in rounds):
        if run.manifest(folder):
            yield from run.rows(folder)


def _earlier_digests(run: RunDir, rounds: Iterable[int], stage: str) -> list[str]:
    return [input_of(run, folder).digest for folder in (run.stage(r, stage) for r in rounds) if run.manifest(folder)]


def _fits(method: Method, tokenizer: Any, max_length: int) -> DatasetStep:
    """A step that drops what the trainer would have to cut; here it is counted and can be looked at.

    A row that gives several examples loses the long ones alone: they are noted in its payload, for the card.
    """

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | Kept | None]]:
        for row in rows():
            tokens = [sum(token_lengths(tokenizer, e.prompt, e.completion)) for e in method.examples(row)]
            long = [i for i, n in enumerate(tokens) if n > max_length]
            if long and len(long) == len(tokens):
                yield row, Dropped("too_long", f"{min(tokens)} tokens, train.max_length is {max_length}", row.payload["text"])
            else:
                yield row, Kept([Row(row.id, {**row.payload, TOO_LONG: long}, row.parents)]) if long else None

    return step


def _published(run: RunDir, round_: int, recipe: Recipe, method: Method, role: str) -> Iterator[PublishedRow]:
    real = round_ == 0
    for row in run.rows(run.stage(round_, STAGE)):
        for i, example in enumerate(method.examples(row)):
            if i in row.payload.get(TOO_LONG, ()) or (role and example.role != role):
                continue
            yield published_row(
                example.prompt,
                example.completion,
                row_id=row.id if i == 0 else f"{row.id}-{i}",
                parent_ids=row.parents,
                task_id=row.payload["task_id"],
                kind="real" if real else "synthetic",
                round=round_,
                method="demonstration" if real else method.name,
                model="" if real else row.payload["model"],
                sampling=None if real else row.payload.get("sampling", recipe.sampling.as_json),
                verdict=row.payload.get("verdict"),
                hinted=bool(row.payload.get("hinted")),
            )


def _pairs(run: RunDir, round_: int, recipe: Recipe, method: Method) -> Iterator[PairRow]:
    for row in run.rows(run.stage(round_, preferences.STAGE)):
        pair = row.payload
        yield pair_row(
            pair["prompt"],
            pair["chosen"],
            pair["rejected"],
            row_id=row.id,
            parent_ids=row.parents,
            task_id=pair["task_id"],
            round=round_,
            method=method.name,
            models=(pair["chosen_model"], pair["rejected_model"]),
            sampling=pair.get("sampling") or recipe.sampling.as_json,
            verdicts=(pair["chosen_verdict"], pair["rejected_verdict"]),
            hinted=pair["hinted"],
        )


def _facts(run: RunDir, round_: int, recipe: Recipe, method: Method, last: Manifest, notes: list[str]) -> CardFacts:
    manifests = {s: run.manifest(run.stage(round_, s)) for s in STAGES} | {last.stage: last}
    found = {name: m for name, m in manifests.items() if m is not None}
    model = next((m.model for m in found.values() if m.model), "")
    return CardFacts(
        title=f"{recipe.name}, round {round_}",
        method=method.name if round_ else "real demonstrations",
        model=model,
        round=round_,
        stages={
            name: {"in": m.rows_in, "out": m.rows_out, "dropped": sum(m.dropped_in_all().values()), "failed": sum(m.rows_failed.values())}
            for name, m in found.items()
        },
        dropped={f"{name}: {reason}": n for name, m in found.items() for reason, n in m.dropped_in_all().items()},
        notes=(f"Tasks: {recipe.tasks.source} {recipe.tasks.dataset or recipe.tasks.path or ''}".rstrip(), f"Verifier: {method.verifier}", *notes),
        made_of=_made_of(last),
    )
