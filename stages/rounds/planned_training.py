"""What the trainings of a run will see: examples, steps and tokens, before anything is generated."""

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from pipeline.config import Recipe
from pipeline.publish.kinds import DPO, KINDS, KTO, SFT
from pipeline.rundir import RunDir
from pipeline.stage import TRAIN, TRAIN_SFT
from pipeline.training import TrainResult
from stages.rounds.measured import Measured, trained
from stages.rounds.planned import LOOKED_AT, Planned, Planner, Span
from stages.rounds.training import preference_kind
from stages.steps.samples import demonstration

TURNS_SHARE = 0.5  # of train.max_length that an episode is taken to have


class Training(NamedTuple):
    """One training: what it sees, and how long it took if that is measured (`done`: it is over)."""

    round: int
    stage: str
    examples: Span
    steps: Span
    tokens: Span
    per_second: float | None = None
    done: bool = False


def trainings(
    planner: Planner, stages: Sequence[Planned], measured: Mapping[str, Measured], done: RunDir | None
) -> list[Training]:
    """Return the trainings of all rounds, from what their stages verify."""
    recipe = planner.recipe
    published: dict[int, Span] = {}
    if recipe.demonstrations is not None:
        published[0] = Span(planner.count("demonstrations"), planner.count("demonstrations"))
    drawn = {s.round: s.rows for s in stages if s.stage == "generate"}
    judged = {s.round: s.rows for s in stages if s.stage == "verify"}
    before, found = trained(done) if done else None, []
    for verified in (s for s in stages if s.stage == "verify"):
        published[int(verified.round)] = _published(planner, verified, drawn[verified.round], measured)
    real, written = _demonstration_tokens(planner), _answer_tokens(planner, stages)
    for number in sorted(published):
        examples = _mixture(recipe, number, published)
        tokens = Span(written, written) if number else Span(real, real)
        for stage, kind in _kinds(recipe, number):
            if kind == DPO.name:
                pairs = recipe.preferences.pairs_per_question or 2
                examples = Span(0, drawn[number].high * pairs)
            if kind == KTO.name:
                examples = Span(0, judged[number].high)
            found.append(_training(planner, number, (stage, kind), examples, tokens, before, done))
    return found


def _kinds(recipe: Recipe, number: int) -> list[tuple[str, str]]:
    """Return (stage, kind) of a round's trainings."""
    kind = preference_kind(recipe, number)
    if kind is None:
        return [(TRAIN, "cpt" if recipe.train.kind == "cpt" else SFT.name)]
    both = [(TRAIN_SFT, SFT.name), (TRAIN, kind.name)]
    return both[1:] if recipe.train.kind == kind.name else both


def _published(planner: Planner, verified: Planned, drawn: Span, measured: Mapping[str, Measured]) -> Span:
    """Return a round's examples: what is verified, within the limit per question."""
    method, rows = planner.method, verified.out
    if known := measured.get("publish"):
        rows = rows.times(known.per_row()[0])
    if method.keep_per_question:
        most = drawn.high * method.keep_per_question
        rows = Span(min(rows.low, most), min(rows.high, most))
    elif "publish" not in measured:
        rows = Span(0, rows.high)  # duplicates and held-out questions are left out
    work = planner.work("publish", verified.round)
    return rows.times(1, work.most) if work else rows


def _mixture(recipe: Recipe, number: int, published: Mapping[int, Span]) -> Span:
    """Return the examples that a round trains on, by accumulate.policy."""
    kind, _, size = recipe.accumulate.policy.partition(":")
    first = {"replace": number, "window": number - int(size or 1) + 1}.get(kind, 0)
    wanted = {*range(max(first, 0), number + 1), *(r for r in recipe.accumulate.keep_rounds if r <= number)}
    wanted |= {0} if recipe.accumulate.keep_real else set()
    total = Span()
    for r in wanted & published.keys():
        total = total.plus(published[r])
    return Span(min(total.low, int(size)), min(total.high, int(size))) if kind == "subsample" else total


def _training(
    planner: Planner,
    number: int,
    named: tuple[str, str],
    examples: Span,
    tokens: Span,
    before: TrainResult | None,
    done: RunDir | None,
) -> Training:
    (stage, kind), train = named, planner.recipe.train
    if done and (result := _result(done, number, stage)):
        seen = Span(result.tokens, result.tokens)
        return Training(
            number, stage, Span(*[result.examples] * 2), Span(*[result.steps] * 2), seen, done=True
        )
    settings, _ = train.section(kind)
    batch = settings.batch_size or train.batch_size
    each = Span(*[min(train.max_length, t) for t in tokens]).times(2 if kind == DPO.name else 1)
    if kind == "cpt":
        each = Span(train.max_length, train.max_length)
        examples = Span(
            examples.low * tokens.low // train.max_length, -(-examples.high * tokens.high // train.max_length)
        )
    if before and before.steps and before.kind == kind:
        each = Span(*[before.tokens / (before.steps * batch)] * 2)
    roles = len(planner.method.roles) if train.adapters else 1
    steps = examples.times(settings.epochs / batch)
    if settings.max_steps:
        steps = Span(settings.max_steps * roles, settings.max_steps * roles)
    if train.max_tokens and each.low:
        wanted = train.max_tokens * roles / batch
        steps = Span(wanted / each.high, wanted / each.low)
    if not math.isnan(steps.high):
        steps = Span(max(1, round(steps.low)), max(1, round(steps.high)))
    seen = Span(steps.low * batch * each.low, steps.high * batch * each.high)
    if train.max_tokens:
        seen = Span(train.max_tokens * roles, train.max_tokens * roles)
    speed = before.tokens_per_second if before and before.kind == kind else None
    return Training(number, stage, examples, steps, seen, speed)


def _result(run: RunDir, number: int, stage: str) -> TrainResult | None:
    from pipeline.overview import train_facts

    result = train_facts(run, number, stage)["result"]
    return TrainResult(**result) if result else None


def _answer_tokens(planner: Planner, stages: Sequence[Planned]) -> float:
    """Return the tokens of a synthetic example: the question, and what the last writing stage writes."""
    kind, longest = KINDS[planner.method.dataset], planner.recipe.train.max_length
    if planner.method.dataset == "turns":
        return TURNS_SHARE * longest
    writing = [s for s in stages if s.stage == "generate" and s.completions.high]
    answer = max((s.completion.high / s.completions.high for s in writing), default=0.0)
    return answer if kind.blocks else planner.question_tokens + answer


def _demonstration_tokens(planner: Planner) -> float:
    """Return the mean tokens of the demonstrations' examples."""
    if not planner.count("demonstrations"):
        return 0.0
    rows = islice(planner.run.rows(planner.run.tasks("demonstrations")), LOOKED_AT)
    lengths = []
    for row in rows:
        row.payload.setdefault("text", demonstration(row.payload))
        lengths += [planner.chat_tokens([*e.prompt, *e.completion]) for e in planner.method.examples(row)]
    return sum(lengths) / len(lengths) if lengths else 0.0
