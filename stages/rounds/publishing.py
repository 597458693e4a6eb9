"""From verified rows to published datasets: duplicates across rounds, held-out leaks, length, caps and pairs
are settled here.

Rows are compared with those of the earlier rounds that are trained on whenever this one is
(Accumulate.always_with): what only rounds outside the mixture say is no duplicate. Repetitions within a
window are settled in the mixture.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any

from pipeline.ids import digest
from pipeline.methods import example_templates
from pipeline.protocols import (
    AddsPublishSteps,
    DeduplicatesBy,
    DescribesData,
    DescribesPairs,
    KeysPairs,
    MixesGeneral,
    NamesVerifier,
    TrainsOnTexts,
)
from pipeline.publish import CPT, DPO, KTO, CardFacts, Kind, measure
from pipeline.round import Input, Round, input_of
from pipeline.rows import Row
from pipeline.runner.stage import run_stage
from pipeline.stage import LABELS, PAIRS, PROPOSE, PUBLISH, STAGES, DatasetStep, Stage
from pipeline.store import files
from pipeline.store.manifest import Manifest
from stages.judges.combined import described
from stages.rounds import judged
from stages.rounds.published_rows import (
    TOO_LONG,
    dataset_name,
    dataset_roles,
    drop_too_long,
    published_judged,
    published_kind,
    published_rows,
)
from stages.steps import decontaminate, dedup, filters, labels, preferences
from stages.steps.near_duplicates import near_duplicates
from stages.tasks.general import Mixed


async def publish_round(round_: Round) -> Manifest:
    """Publish what a round verified (round 0: the real demonstrations) as datasets/<the method's
    kind>/round-NNN.
    """
    run, recipe, method, number = round_.run, round_.recipe, round_.method, int(round_.number)
    kind = published_kind(method)
    source = input_of(run, run.tasks("demonstrations")) if number == 0 else round_.input("verify")
    steps = _steps(round_)
    config = {"filters": recipe.filters.fingerprint(), **_shared_config(round_, PUBLISH, 0)}
    general = _general(round_)
    config |= {"general": general.digest} if general else {}
    if near := recipe.filters.near_duplicates:
        config["near_duplicates"] = near.model_dump(mode="json")
    version = _version(round_, 0, recipe.filters.drop_duplicates)
    stage = Stage(steps=steps, prompts=example_templates(method), config=config, version=version)
    manifest = await run_stage(round_, PUBLISH, lambda _: stage, source)
    seen = _Seen(round_, PUBLISH)
    own = partial(published_rows, seen.rows, number, recipe, method, chat=round_.chat)
    for role in dataset_roles(recipe, method):
        folder = run.dataset(dataset_name(kind, role), number)
        if not _is_wanted(folder, manifest):
            continue
        rows: Iterable[Any] = measure(own(role), round_.tokenizer, kind)
        more: list[str] = []
        if general:
            trained = sum(row["tokens_loss"] for row in measure(own(role), round_.tokenizer, kind))
            rows, more = chain(rows, general.draw(trained)), general.notes
        facts = partial(_published_facts, seen, manifest, role, more)
        _write(rows, folder, facts, recipe.seed, kind)
    return manifest


async def publish_pairs(round_: Round) -> Manifest:
    """Pair a round's answers as recipe.preferences says and publish the pairs as datasets/dpo/round-NNN."""
    preferred = round_.recipe.preferences
    steps: dict[str, DatasetStep] = {}
    if preferred.distinct:
        steps["exact_duplicates"] = dedup.exact_duplicates(tuple, _pair_key(round_))
    rules = _rules(round_, lambda: (row for _, row in _earlier_rows(round_, PAIRS, 1)))
    steps["pair_up"] = preferences.pair_up(round_.method, rules)
    source = judged.judged_answers(round_, ranked=preferred.pairs == "best_worst")
    return await _publish_judged(round_, PAIRS, DPO, steps, preferred.fingerprint(), source)


async def publish_labels(round_: Round) -> Manifest:
    """Publish a round's right and wrong answers, with labels, as datasets/kto/round-NNN."""
    distinct, steps = round_.recipe.preferences.distinct, dict[str, DatasetStep]()
    if distinct:
        earlier = partial(_earlier_labeled, round_)
        steps["exact_duplicates"] = dedup.exact_duplicates(earlier, _pair_key(round_))
    steps["label"] = labels.label(round_.method, _rules(round_))
    source = judged.judged_answers(round_)
    return await _publish_judged(round_, LABELS, KTO, steps, {"distinct": distinct}, source)


async def _publish_judged(
    round_: Round, name: str, kind: Kind, steps: dict[str, DatasetStep], settings: Any, source: Input
) -> Manifest:
    """Run the stage that makes pairs or labeled answers of judged ones, and publish its rows."""
    recipe, method, number = round_.recipe, round_.method, int(round_.number)
    config = {
        "preferences": settings,
        "wrong": judged.wrong_reasons(recipe),
        **_shared_config(round_, name, 1),
    }
    version = _version(round_, 1, recipe.preferences.distinct)
    stage = Stage(steps=steps, prompts=example_templates(method), config=config, version=version)
    manifest = await run_stage(round_, name, lambda _: stage, source)
    if _is_wanted(folder := round_.run.dataset(kind.name, number), manifest):
        seen = _Seen(round_, name)
        rows = published_judged(seen.rows(), number, recipe, method, kind)
        facts = partial(_judged_facts, seen, manifest)
        _write(measure(rows, round_.tokenizer, kind), folder, facts, recipe.seed, kind)
    return manifest


def _write(rows: Iterable[Any], folder: str, facts: Callable[[], CardFacts], seed: int, kind: Kind) -> None:
    from pipeline.publish.dataset import publish  # takes a second to import, which stages do without

    publish(rows, folder, facts, seed, kind)


def _rules(round_: Round, earlier: Callable[[], Iterable[Row]] = tuple) -> preferences.Rules:
    recipe, searches = round_.recipe, _held_out_searches(round_)
    limit, seed = recipe.train.max_length, recipe.seed
    return preferences.Rules(
        recipe.preferences, searches, round_.tokenizer, limit, seed, earlier, round_.chat
    )


def _pair_key(round_: Round) -> Callable[[Row], str]:
    return round_.method.pair_key if isinstance(round_.method, KeysPairs) else _text


def _earlier_labeled(round_: Round) -> Iterator[tuple[str, str]]:
    return ((dedup.question_of(row), _text(row)) for _, row in _earlier_rows(round_, LABELS, 1))


def held_out_questions(round_: Round) -> dict[str, list[decontaminate.Asked]]:
    """Return the questions by evaluation set; each is searched by itself, as it reveals its own template."""
    run = round_.run
    sets = ("held_out", *(f"sets/{name}" for name in round_.recipe.evaluate.sets))
    return {
        which: [decontaminate.Asked.of(row.payload) for row in run.rows(run.tasks(which))] for which in sets
    }


def _steps(round_: Round) -> dict[str, DatasetStep]:
    recipe, method = round_.recipe, round_.method
    steps: dict[str, DatasetStep] = {}
    key = method.dedup_text if isinstance(method, DeduplicatesBy) else _text
    if recipe.filters.drop_duplicates:
        steps["exact_duplicates"] = dedup.exact_duplicates(lambda: _earlier_answers(round_), key)
    texts = method.trained_texts if isinstance(method, TrainsOnTexts) else (lambda row: [_text(row)])
    for which, questions in held_out_questions(round_).items():
        steps[which.replace("/", "_")] = decontaminate.held_out(questions, recipe.held_out.ngram, texts)
    steps["max_length"] = drop_too_long(method, round_.tokenizer, recipe.train.max_length, round_.chat)
    if near := recipe.filters.near_duplicates:  # among rows that nothing but a cap drops: one of them stays
        asked = (lambda row: "") if published_kind(method).name == CPT.name else dedup.question_of
        earlier = partial(_earlier_rows, round_, PUBLISH, 0)
        steps["near_duplicates"] = near_duplicates(near.threshold, near.shingle, earlier, key, asked)
    if method.keep_per_question and round_.number:
        steps["cap_per_question"] = filters.cap_per_question(method.keep_per_question, recipe.seed)
    if isinstance(method, AddsPublishSteps):
        steps |= method.publish_steps(int(round_.number), round_.tokenizer)
    return steps


def _shared_config(round_: Round, stage: str, first: int) -> dict[str, Any]:
    """Return what both kinds of publishing depend on: the rounds from `first` on that rows are compared with,
    the evaluation sets, the method.
    """
    run, recipe = round_.run, round_.recipe
    sets = {name: input_of(run, run.tasks(f"sets/{name}")).digest for name in recipe.evaluate.sets}
    questions = (asked for which in held_out_questions(round_).values() for asked in which)
    # Older versions drop other rows where questions have options, are games, or are written without spaces.
    changed = {"held_out": 2} if any(map(decontaminate.is_searched_anew, questions)) else {}
    return {
        **changed,
        "method": round_.method.options.fingerprint(),
        "max_length": recipe.train.max_length,
        "ngram": recipe.held_out.ngram,
        "earlier": [r.input(stage).digest for r in _compared(round_, first) if r.manifest(stage)],
        **({"sets": sets} if sets else {}),
        **({"chat": round_.chat.digest} if round_.chat.digest else {}),
    }


def _compared(round_: Round, first: int) -> list[Round]:
    """Return the rounds from `first` on whose rows this round's must not repeat."""
    rounds = round_.recipe.accumulate.always_with(int(round_.number))
    return [round_.at(number) for number in rounds if number >= first]


def _version(round_: Round, first: int, distinct: bool) -> int:
    """Return the version of a publishing stage: 2 where version 1 compared with more rounds (all earlier)."""
    return 2 if distinct and len(_compared(round_, first)) < len(round_.earlier(first)) else 1


def _general(round_: Round) -> Mixed | None:
    """Return the general conversations that the method's option `general` mixes in."""
    wanted = round_.method.general if isinstance(round_.method, MixesGeneral) else None
    if wanted is None:
        return None
    seed, limit = round_.recipe.seed, round_.recipe.train.max_length
    return Mixed(wanted, seed, int(round_.number), round_.tokenizer, limit, _held_out_searches(round_))


def _held_out_searches(round_: Round) -> list[decontaminate.HeldOut]:
    ngram = round_.recipe.held_out.ngram
    return [decontaminate.search_for(questions, ngram) for questions in held_out_questions(round_).values()]


def _text(row: Row) -> str:
    return str(row.payload["text"])


def _earlier_answers(round_: Round) -> Iterator[tuple[str, str]]:
    """Yield question and answer of every row that this round's must not repeat, by the method's own text and
    by `text`.
    """
    method = round_.method
    for _, row in _earlier_rows(round_, PUBLISH, 0):
        own = {method.dedup_text(row)} if isinstance(method, DeduplicatesBy) else set()
        yield from ((dedup.question_of(row), text) for text in own | {_text(row)})


def _earlier_rows(round_: Round, stage: str, first: int) -> Iterator[tuple[int, Row]]:
    """Yield the rows that this round's must not repeat, each with the number of its round."""
    for earlier in _compared(round_, first):
        if earlier.manifest(stage):
            yield from ((int(earlier.number), row) for row in earlier.rows(stage))


def _is_wanted(folder: str, manifest: Manifest) -> bool:
    """Tell whether a dataset has to be written: it is missing, or was made from rows that have been redone
    since.
    """
    path = files.join(folder, "manifest.json")
    if not files.exists(path):
        return True
    if files.read_json(path).get("made_of") in (
        None,
        "",
        _made_of(manifest),
    ):  # older versions do not record it
        return False
    files.remove(folder)
    return True


def _made_of(manifest: Manifest) -> str:
    return digest([manifest.fingerprint, *(part.sha256 for part in manifest.parts)])


class _Seen:
    """The rows that a round publishes, and what the card tells about them, once they have been read."""

    def __init__(self, round_: Round, stage: str) -> None:
        self.round, self.stage = round_, stage

    def rows(self) -> Iterator[Row]:
        self.count = self.hinted = self.left_out = 0
        self.writers: set[str] = set()
        for row in self.round.rows(self.stage):
            payload = row.payload
            self.count += 1
            self.hinted += bool(payload.get("hinted"))
            self.left_out += len(payload.get(TOO_LONG, ()))
            self.writers.update(filter(None, map(payload.get, ("model", "chosen_model", "rejected_model"))))
            yield row


def _published_facts(seen: _Seen, last: Manifest, role: str, more: list[str]) -> CardFacts:
    """Return the card's facts, with notes: the method's, the role, examples left out, and `more`."""
    round_ = seen.round
    method, limit = round_.method, round_.recipe.train.max_length
    notes = (
        list(method.notes(round_.rows(PUBLISH)))
        if round_.number and isinstance(method, DescribesData)
        else []
    )
    notes += [f"Role: {role}"] if role else []
    if seen.left_out:
        rest = f"of rows that have others: {seen.left_out} left out"
        notes.append(f"Examples longer than {limit} tokens, {rest}")
    return _facts(seen, last, notes + more)


def _judged_facts(seen: _Seen, last: Manifest) -> CardFacts:
    """Return the card's facts about pairs or labeled answers, with notes: how many are hinted, and what the
    method says about its pairs.
    """
    method = seen.round.method
    what = "Pairs with a side" if seen.stage == PAIRS else "Answers"
    notes = [f"{what} whose author was shown the answer: {seen.hinted} of {seen.count}"]
    if seen.stage == PAIRS and isinstance(method, DescribesPairs):
        notes += method.pair_notes(int(seen.round.number))
    return _facts(seen, last, notes)


def _facts(seen: _Seen, last: Manifest, notes: list[str]) -> CardFacts:
    round_ = seen.round
    recipe, method, number = round_.recipe, round_.method, int(round_.number)
    manifests = {name: m for name in (PROPOSE, *STAGES) if (m := round_.manifest(name))} | {last.stage: last}
    stage_notes = (
        f"{name.capitalize()}: {m.extra['note']}" for name, m in manifests.items() if m.extra.get("note")
    )
    verifier = method.verified_by(number) if isinstance(method, NamesVerifier) else described(recipe.verifier)
    tasks = f"Tasks: {recipe.tasks.source} {recipe.tasks.dataset or recipe.tasks.path or ''}".rstrip()
    return CardFacts(
        title=f"{recipe.name}, round {number}",
        method=method.name if number else "real demonstrations",
        model=", ".join(sorted(seen.writers)),
        round=number,
        stages={name: _counts(m) for name, m in manifests.items()},
        dropped={
            f"{name}: {why}": n for name, m in manifests.items() for why, n in m.dropped_in_all().items()
        },
        notes=(tasks, *((f"Verifier: {verifier}",) if verifier else ()), *notes, *stage_notes),
        made_of=_made_of(last),
    )


def _counts(m: Manifest) -> dict[str, int]:
    dropped, failed = sum(m.dropped_in_all().values()), sum(m.rows_failed.values())
    return {"in": m.rows_in, "out": m.rows_out, "dropped": dropped, "failed": failed}
