"""From verified rows to a published dataset: duplicates over all rounds, held-out leaks, caps and lengths are settled here."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.config import Recipe
from pipeline.methods import STAGES, DatasetStep, Method, Stage
from pipeline.publish import CardFacts, PublishedRow, measure, publish, published_row, token_lengths
from pipeline.rows import Dropped, Row
from pipeline.rundir import RunDir
from pipeline.runner.stage import Input, input_of, run_stage
from pipeline.store import files
from pipeline.store.manifest import Manifest
from stages import decontaminate, dedup, filters

STAGE = "publish"
KIND = "sft"


async def publish_round(run: RunDir, round_: int, recipe: Recipe, method: Method, tokenizer: Any) -> Manifest:
    """Publish what round `round_` verified (round 0: the real demonstrations) as datasets/sft/round-NNN."""
    source = input_of(run, run.tasks("demonstrations") if round_ == 0 else run.stage(round_, "verify"))
    steps = _steps(run, round_, recipe, method, tokenizer)
    config = {
        "filters": recipe.filters.model_dump(mode="json"),
        "method": method.options.model_dump(mode="json"),
        "max_length": recipe.train.max_length,
        "ngram": recipe.held_out.ngram,
        "earlier": [input_of(run, run.stage(r, STAGE)).digest for r in range(0, round_) if run.manifest(run.stage(r, STAGE))],
    }
    if recipe.evaluate.sets:
        config["sets"] = {name: input_of(run, run.tasks(f"sets/{name}")).digest for name in recipe.evaluate.sets}
    manifest = await run_stage(run, round_, STAGE, lambda _: Stage(steps=steps, config=config), source, recipe)
    folder = run.dataset(KIND, round_)
    if not files.exists(files.join(folder, "manifest.json")):
        rows = measure(_published(run, round_, recipe, method), tokenizer)
        publish(rows, folder, _facts(run, round_, recipe, method, source, manifest), recipe.seed)
    return manifest


def _steps(run: RunDir, round_: int, recipe: Recipe, method: Method, tokenizer: Any) -> dict[str, DatasetStep]:
    steps: dict[str, DatasetStep] = {}
    if recipe.filters.drop_duplicates:
        steps["exact_duplicates"] = dedup.exact_duplicates(lambda: _earlier(run, round_))
    for which in ("held_out", *(f"sets/{name}" for name in recipe.evaluate.sets)):  # each by itself: a template is told by its own questions
        questions = [row.payload["question"] for row in run.rows(run.tasks(which))]
        steps[which.replace("/", "_")] = decontaminate.held_out(questions, recipe.held_out.ngram)
    steps["max_length"] = _fits(method, tokenizer, recipe.train.max_length)
    cap = getattr(method.options, "keep_per_question", None)
    if cap and round_ > 0:
        steps["cap_per_question"] = filters.cap_per_question(cap, recipe.seed)
    return steps


def _earlier(run: RunDir, round_: int) -> Iterator[tuple[str, str]]:
    """Question and answer of every row that an earlier round published."""
    for r in range(0, round_):
        folder = run.stage(r, STAGE)
        if run.manifest(folder):
            yield from ((row.payload["question"], row.payload["text"]) for row in run.rows(folder))


def _fits(method: Method, tokenizer: Any, max_length: int) -> DatasetStep:
    """A step that drops what the trainer would have to cut; here it is counted and can be looked at."""

    def step(rows: Callable[[], Iterable[Row]]) -> Iterator[tuple[Row, Dropped | None]]:
        for row in rows():
            tokens = max((sum(token_lengths(tokenizer, e.prompt, e.completion)) for e in method.examples(row)), default=0)
            too_long = tokens > max_length
            yield row, Dropped("too_long", f"{tokens} tokens, train.max_length is {max_length}", row.payload["text"]) if too_long else None

    return step


def _published(run: RunDir, round_: int, recipe: Recipe, method: Method) -> Iterator[PublishedRow]:
    real = round_ == 0
    for row in run.rows(run.stage(round_, STAGE)):
        for i, example in enumerate(method.examples(row)):
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


def _facts(run: RunDir, round_: int, recipe: Recipe, method: Method, source: Input, manifest: Manifest) -> CardFacts:
    manifests = {s: run.manifest(run.stage(round_, s)) for s in STAGES} | {STAGE: manifest}
    found = {name: m for name, m in manifests.items() if m is not None}
    model = next((m.model for m in found.values() if m.model), "")
    notes = method.notes(run.rows(run.stage(round_, STAGE))) if round_ else []
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
        notes=(f"Tasks: {recipe.tasks.source} {recipe.tasks.dataset or recipe.tasks.path or ''}".rstrip(), f"Verifier: {recipe.verifier}", *notes),
    )
