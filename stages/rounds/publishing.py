"""From judged rows to published datasets: duplicates over all rounds, held-out leaks, caps, lengths and pairs are settled here."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any

from pipeline.config import Recipe
from pipeline.ids import digest
from pipeline.methods import PROPOSE, STAGES, DatasetStep, Method, Stage
from pipeline.publish import DPO, CardFacts, measure, publish
from pipeline.rows import Row
from pipeline.rundir import RunDir
from pipeline.runner.stage import input_of, run_stage
from pipeline.store import files
from pipeline.store.manifest import Manifest
from stages.rounds import judged
from stages.rounds.published_rows import (
    TOO_LONG,
    dataset_name,
    dataset_roles,
    fits,
    published_kind,
    published_pairs,
    published_rows,
)
from stages.steps import decontaminate, dedup, filters, preferences
from stages.tasks.general import General, Mixed

STAGE = "publish"


async def publish_round(run: RunDir, round_: int, recipe: Recipe, method: Method, tokenizer: Any) -> Manifest:
    """Publish what round `round_` verified (round 0: the real demonstrations) as datasets/<the method's kind>/round-NNN."""
    kind = published_kind(method)
    source = input_of(run, run.tasks("demonstrations") if round_ == 0 else run.stage(round_, "verify"))
    steps = _steps(run, round_, recipe, method, tokenizer)
    config = {
        "filters": recipe.filters.model_dump(mode="json"),
        "method": method.options.fingerprint(),
        "max_length": recipe.train.max_length,
        "ngram": recipe.held_out.ngram,
        "earlier": _earlier_digests(run, range(round_), STAGE),
        **_set_digests(run, recipe),
    }
    general = _general(run, round_, recipe, method, tokenizer)
    config |= {"general": general.digest} if general else {}
    manifest = await run_stage(
        run,
        round_,
        STAGE,
        lambda _: Stage(steps=steps, prompts=method.example_prompts(), config=config),
        source,
        recipe,
    )
    own = partial(published_rows, partial(run.rows, run.stage(round_, STAGE)), round_, recipe, method)
    for role in dataset_roles(recipe, method):
        if _is_wanted(folder := run.dataset(dataset_name(kind, role), round_), manifest):
            rows: Iterable[Any] = measure(own(role), tokenizer, kind)
            notes = _notes(run, round_, recipe, method, role)
            if general:
                rows = chain(
                    rows, general.draw(sum(row["tokens_loss"] for row in measure(own(role), tokenizer, kind)))
                )
                notes += general.notes
            publish(rows, folder, _facts(run, round_, recipe, method, manifest, notes), recipe.seed, kind)
    return manifest


async def publish_pairs(run: RunDir, round_: int, recipe: Recipe, method: Method, tokenizer: Any) -> Manifest:
    """Pair round `round_`'s right answers with its wrong ones and publish the pairs as datasets/dpo/round-NNN."""
    held_out = [
        decontaminate.search_for(questions, recipe.held_out.ngram)
        for questions in held_out_questions(run, recipe).values()
    ]
    earlier = range(1, round_)
    rules = preferences.Rules(
        recipe.preferences,
        held_out,
        tokenizer,
        recipe.train.max_length,
        recipe.seed,
        lambda: _rows_of(run, earlier, preferences.STAGE),
    )
    steps: dict[str, DatasetStep] = (
        {"exact_duplicates": dedup.exact_duplicates(tuple, method.identity)}
        if recipe.preferences.distinct
        else {}
    )
    steps["pair_up"] = preferences.pair_up(method, rules)
    config = {
        "preferences": recipe.preferences.model_dump(mode="json"),
        "method": method.options.fingerprint(),
        "max_length": recipe.train.max_length,
        "ngram": recipe.held_out.ngram,
        "wrong": judged.WRONG,
        "earlier": _earlier_digests(run, earlier, preferences.STAGE),
        **_set_digests(run, recipe),
    }
    source = judged.judged_answers(run, round_)
    manifest = await run_stage(
        run,
        round_,
        preferences.STAGE,
        lambda _: Stage(steps=steps, prompts=method.example_prompts(), config=config),
        source,
        recipe,
    )
    if _is_wanted(folder := run.dataset(DPO.name, round_), manifest):
        pairs = run.rows(run.stage(round_, preferences.STAGE))
        rows = measure(published_pairs(pairs, round_, recipe, method), tokenizer, DPO)
        publish(
            rows,
            folder,
            _facts(run, round_, recipe, method, manifest, _pair_notes(run, round_, method)),
            recipe.seed,
            DPO,
        )
    return manifest


def _notes(run: RunDir, round_: int, recipe: Recipe, method: Method, role: str) -> list[str]:
    """Return what the card says beside the counts: of the method, of the role, and of examples that are left out of their rows."""
    notes = method.notes(run.rows(run.stage(round_, STAGE))) if round_ else []
    notes += [f"Role: {role}"] if role else []
    left_out = sum(len(row.payload.get(TOO_LONG, ())) for row in run.rows(run.stage(round_, STAGE)))
    return notes + (
        [
            f"Examples longer than {recipe.train.max_length} tokens, of rows that have others: {left_out} left out"
        ]
        if left_out
        else []
    )


def _pair_notes(run: RunDir, round_: int, method: Method) -> list[str]:
    """Return what the card of pairs says: how many are hinted, and what the method says of the answers that are published."""
    hinted = [row.payload["hinted"] for row in run.rows(run.stage(round_, preferences.STAGE))]
    return [
        f"Pairs of which a side was made by a model that was shown the answer: {sum(hinted)} of {len(hinted)}",
        *method.pair_notes(round_),
    ]


def _general(run: RunDir, round_: int, recipe: Recipe, method: Method, tokenizer: Any) -> Mixed | None:
    """Return the general conversations that the method's option `general` asks for."""
    wanted: General | None = getattr(method.options, "general", None)
    if wanted is None:
        return None
    held_out = [
        decontaminate.search_for(questions, recipe.held_out.ngram)
        for questions in held_out_questions(run, recipe).values()
    ]
    return Mixed(wanted, recipe.seed, round_, tokenizer, recipe.train.max_length, held_out)


def _is_wanted(folder: str, manifest: Manifest) -> bool:
    """Tell whether a dataset has to be written: it is not there, or was made of rows that somebody has had made anew since."""
    path = files.join(folder, "manifest.json")
    if not files.exists(path):
        return True
    if files.read_json(path).get("made_of") in (
        None,
        "",
        _made_of(manifest),
    ):  # a dataset of an older version does not say
        return False
    files.remove(folder)
    return True


def _made_of(manifest: Manifest) -> str:
    return digest([manifest.fingerprint, *(part.sha256 for part in manifest.parts)])


def _steps(
    run: RunDir, round_: int, recipe: Recipe, method: Method, tokenizer: Any
) -> dict[str, DatasetStep]:
    steps: dict[str, DatasetStep] = {}
    if recipe.filters.drop_duplicates:
        steps["exact_duplicates"] = dedup.exact_duplicates(lambda: _earlier(run, round_, method), method.said)
    for which, questions in held_out_questions(run, recipe).items():
        steps[which.replace("/", "_")] = decontaminate.held_out(
            questions, recipe.held_out.ngram, method.learnt
        )
    steps["max_length"] = fits(method, tokenizer, recipe.train.max_length)
    cap = getattr(method.options, "keep_per_question", None)
    if cap and round_ > 0:
        steps["cap_per_question"] = filters.cap_per_question(cap, recipe.seed)
    return steps | method.publish_steps(round_, tokenizer)


def _set_digests(run: RunDir, recipe: Recipe) -> dict[str, dict[str, str]]:
    """What the further evaluation sets are, for a stage's fingerprint; nothing where there are none."""
    found = {name: input_of(run, run.tasks(f"sets/{name}")).digest for name in recipe.evaluate.sets}
    return {"sets": found} if found else {}


def held_out_questions(run: RunDir, recipe: Recipe) -> dict[str, list[str]]:
    """Return the questions of each evaluation set, which are searched for set by set: a template is told by its own questions."""
    sets = ("held_out", *(f"sets/{name}" for name in recipe.evaluate.sets))
    return {which: [row.payload["question"] for row in run.rows(run.tasks(which))] for which in sets}


def _earlier(run: RunDir, round_: int, method: Method) -> Iterator[tuple[str, str]]:
    """Question and answer of every row that an earlier round published; that it taught more beside its answer makes that no other one."""
    for row in _rows_of(run, range(round_), STAGE):
        yield from ((dedup.question_of(row), said) for said in {method.said(row), str(row.payload["text"])})


def _rows_of(run: RunDir, rounds: Iterable[int], stage: str) -> Iterator[Row]:
    for folder in (run.stage(r, stage) for r in rounds):
        if run.manifest(folder):
            yield from run.rows(folder)


def _earlier_digests(run: RunDir, rounds: Iterable[int], stage: str) -> list[str]:
    return [
        input_of(run, folder).digest
        for folder in (run.stage(r, stage) for r in rounds)
        if run.manifest(folder)
    ]


def _facts(
    run: RunDir, round_: int, recipe: Recipe, method: Method, last: Manifest, notes: list[str]
) -> CardFacts:
    manifests = {s: run.manifest(run.stage(round_, s)) for s in (PROPOSE, *STAGES)} | {last.stage: last}
    found = {name: m for name, m in manifests.items() if m is not None}
    writers = {
        row.payload.get(name)
        for row in run.rows(run.stage(round_, last.stage))
        for name in ("model", "chosen_model", "rejected_model")
    }
    said = (f"{name.capitalize()}: {m.extra['note']}" for name, m in found.items() if m.extra.get("note"))
    return CardFacts(
        title=f"{recipe.name}, round {round_}",
        method=method.name if round_ else "real demonstrations",
        model=", ".join(sorted(filter(None, writers))),
        round=round_,
        stages={
            name: {
                "in": m.rows_in,
                "out": m.rows_out,
                "dropped": sum(m.dropped_in_all().values()),
                "failed": sum(m.rows_failed.values()),
            }
            for name, m in found.items()
        },
        dropped={
            f"{name}: {reason}": n for name, m in found.items() for reason, n in m.dropped_in_all().items()
        },
        notes=(
            f"Tasks: {recipe.tasks.source} {recipe.tasks.dataset or recipe.tasks.path or ''}".rstrip(),
            *((f"Verifier: {judge}",) if (judge := method.verified_by(round_)) else ()),
            *notes,
            *said,
        ),
        made_of=_made_of(last),
    )
