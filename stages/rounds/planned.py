"""What a run will ask, stage by stage and round by round, before it does (`selfloop iterate --plan`).

Rows and requests follow from the recipe, the number of tasks and what the method says of itself
(pipeline.protocols.Plans): exactly, or as a range. Prompt tokens are counted in a few real questions;
completions are taken to have a share of max_tokens. Where a run, or a sample of it, has measured a stage, its
figures per row replace all that (stages/rounds/measured.py).
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from pipeline.config import Recipe
from pipeline.engines.base import EngineSection
from pipeline.prompts import Prompts
from pipeline.protocols import (
    Asks,
    Evaluates,
    Plans,
    ProposesQuestions,
    RefinesAnswers,
    ResumesAttempts,
    Work,
)
from pipeline.round import Round
from pipeline.rows import Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.stage import PROPOSE, RESUMED, STAGES, Stage
from stages.rounds import closed_book, evaluation
from stages.rounds.measured import Measured
from stages.rounds.measures import answer_name, stage_name

LOOKED_AT = 16  # rows whose prompts are counted
SHARE = Asks().share
_MARKUP = re.compile(r"\{[{%#].*?[}%#]\}|^\[\[\w+\]\]\s*$", re.DOTALL | re.MULTILINE)


class Span(NamedTuple):
    """A number between two bounds; equal where it is known."""

    low: float = 0
    high: float = 0

    def plus(self, other: "Span") -> "Span":
        """Return the sum."""
        return Span(self.low + other.low, self.high + other.high)

    def times(self, low: float, high: float | None = None) -> "Span":
        """Return the product with a number, or with one between two bounds."""
        return Span(self.low * low, self.high * (low if high is None else high))


UNKNOWN = Span(math.nan, math.nan)


class Planned(NamedTuple):
    """One stage of one round. Without `asked`, nothing is known of its requests and of what follows."""

    round: RoundKey
    stage: str
    rows: Span
    out: Span
    requests: Span = Span()
    prompt: Span = Span()  # tokens
    completion: Span = Span()  # tokens
    completions: Span = Span()  # samples: several per request
    asked: bool = True
    seconds: float | None = None  # measured, for all of it
    done: bool = False
    engine: EngineSection | None = None  # where it is not the one that the round's stages ask


class Planner:
    """Plans the stages of a run whose tasks are read (in `run`), with a model's tokenizer."""

    def __init__(
        self,
        run: RunDir,
        round_: Round,
        tokenizer: Any,
        measured: Mapping[str, Measured],
        done: RunDir | None,
    ) -> None:
        """`round_` brings recipe and method; `measured` is by stage; `done` is the run, if it has begun."""
        self.run, self.recipe, self.method = run, round_.recipe, round_.method
        self._tokenizer, self._measured, self._done = tokenizer, measured, done
        self._prompts = Prompts.of(self.recipe)

    def count(self, which: str) -> int:
        """Return the rows of a frozen task set; 0 for one that the recipe does not have."""
        manifest = self.run.manifest(self.run.tasks(which))
        return manifest.rows_out if manifest else 0

    def stages(self, rounds: int) -> Iterator[Planned]:
        """Yield every stage that asks or passes on rows, in the order of the run."""
        recipe = self.recipe
        if recipe.evaluate.base_model:
            yield from self._evaluations("base")
        if recipe.demonstrations is not None:
            yield from self._evaluations(0)
        for number in range(1, rounds + 1):
            yield from self._round(number)
            yield from self._evaluations(number)

    def _round(self, number: int) -> Iterator[Planned]:
        drawn = min(self.recipe.questions_per_round or self.count("train"), self.count("train"))
        rows = Span(drawn, drawn)
        wanted = self.method.proposals(number) if isinstance(self.method, ProposesQuestions) else None
        if wanted:
            yield (proposed := self._stage(number, PROPOSE, Span(wanted.calls, wanted.calls)))
            rows = rows.plus(proposed.out)
        for name in STAGES:
            yield (stage := self._stage(number, name, rows))
            rows = stage.out

    def _stage(self, number: int, name: str, rows: Span) -> Planned:
        if found := self._finished(number, name):
            return found
        stage = self.method.stages()[name]
        if stage.row is None and not stage.steps:
            return Planned(number, name, rows, rows, seconds=0.0)
        work, plans = stage.work or self.work(name, number), isinstance(self.method, Plans)
        if (
            name not in self._measured
            and not plans
            and stage.work is None
            and (stage.prompts or name in (PROPOSE, STAGES[0]))
        ):
            return Planned(number, name, rows, UNKNOWN, asked=False)
        if stage.work is not None and stage.seats:
            return self._judged(number, name, rows, stage)
        work = work or Work()
        planned = self._planned(number, name, rows, work._replace(least=0 if stage.steps else work.least))
        return planned._replace(engine=_first_engine(stage, self.recipe)) if stage.seats else planned

    def _judged(self, round_: RoundKey, name: str, rows: Span, stage: Stage) -> Planned:
        """Return a stage that asks models at seats, on the engine of the first one.

        Its requests hold an answer, as long as answers usually are. A pairwise judge compares two: each
        answer with those before it, half of its question's others on average.
        """
        work, generate = stage.work or Work(), self.work(STAGES[0], 1)
        answer = self._tokens_of(Asks(), self.recipe.sampling.max_tokens)
        asks = [a._replace(before=a.before + answer) for a in work.asks]
        if stage.completed is not None:
            others = generate.most - 1 if generate else 1
            asks = [a._replace(most=a.most * others // 2, before=2 * answer) for a in work.asks]
        planned = self._planned(round_, name, rows, work._replace(asks=tuple(asks)))
        return planned._replace(engine=_first_engine(stage, self.recipe))

    def work(self, stage: str, round_: RoundKey) -> Work | None:
        """Return what the method says of a stage, None if it says nothing."""
        return self.method.work(stage, round_) if isinstance(self.method, Plans) else None

    def _evaluations(self, round_: RoundKey) -> Iterator[Planned]:
        for name in (None, *self.recipe.evaluate.sets):
            folder = self.run.tasks("held_out" if name is None else f"sets/{name}")
            count = self.count("held_out" if name is None else f"sets/{name}")
            judged, rows = evaluation.asks_model(self.recipe, self.method, name), Span(count, count)
            stage = answer_name(name) if judged else stage_name(name)
            yield self._finished(round_, stage) or self._evaluation(round_, stage, name, rows, folder)
            if judged:
                yield self._finished(round_, stage_name(name)) or self._judged(
                    round_, stage_name(name), rows, evaluation.stage(self.recipe, name)
                )
        first = "base" if self.recipe.evaluate.base_model else 0 if self.recipe.demonstrations else 1
        if isinstance(self.method, ResumesAttempts) and round_ not in ("base", first):
            wrong = Span(0, self.count("held_out"))
            yield self._finished(round_, RESUMED) or self._planned(
                round_, RESUMED, wrong, self.work(RESUMED, round_) or Work()
            )
        if general := self.count("replay_held_out"):
            texts, stage = Span(general, general), closed_book.STAGE
            scored = Work(
                (Asks(closed_book.PASSAGE, max_tokens=1, share=1, before=closed_book.WORDS * 4 / 3),), 1, 1
            )
            yield self._finished(round_, stage) or self._planned(round_, stage, texts, scored)

    def _evaluation(self, round_: RoundKey, stage: str, name: str | None, rows: Span, folder: str) -> Planned:
        settings, limit = (
            self.recipe.evaluate,
            self.recipe.evaluate.max_tokens or self.recipe.sampling.max_tokens,
        )
        if settings.how == "loglikelihood":
            options = sum(len(row.payload.get("options") or ()) for row in self.run.rows(folder))
            each = options / rows.high if rows.high else 0
            asks: tuple[Asks, ...] = (Asks(closed_book.QUESTION, least=0, max_tokens=1, share=1),)
            planned = self._planned(round_, stage, rows, Work(asks, 1, 1))
            made, prompt = Span(options, options), planned.prompt.high * each
            return planned._replace(
                requests=made, completion=made, completions=made, prompt=Span(prompt, prompt)
            )
        if settings.how == "perplexity":
            return self._planned(round_, stage, rows, Work((Asks(max_tokens=1, share=1),), 1, 1))
        if isinstance(self.method, Evaluates) and self.method.evaluation(name) is not None:
            own = self.work(stage, round_)
            if own is None and stage not in self._measured:
                return Planned(round_, stage, rows, rows, asked=False)
            asks = tuple(a if a.max_tokens else a._replace(max_tokens=limit) for a in (own or Work()).asks)
            return self._planned(round_, stage, rows, Work(asks, 1, 1))
        asks = (
            Asks(max_tokens=limit),
            *((Asks(max_tokens=limit, n=settings.samples),) if settings.samples else ()),
        )
        if isinstance(self.method, RefinesAnswers) and self.method.refinement() is not None:
            more, answers = self.work("improve", round_), 1 + settings.samples
            asks += tuple(
                a._replace(least=a.least * answers, most=a.most * answers)
                for a in (more.asks if more else ())
            )
        return self._planned(round_, stage, rows, Work(asks, 1, 1))

    def _planned(self, round_: RoundKey, name: str, rows: Span, work: Work) -> Planned:
        if known := self._measured.get(name):
            seconds = None if known.seconds is None else known.seconds / max(1, known.rows) * rows.high
            return _as_measured(round_, name, rows, known)._replace(seconds=seconds)
        requests = prompt = completion = completions = Span()
        for ask in work.asks:
            asked = rows.times(ask.least, ask.most)
            limit = ask.max_tokens or self.recipe.sampling.max_tokens
            written = rows.times(ask.total) if ask.total else asked.times(ask.n * self._tokens_of(ask, limit))
            requests, completion = requests.plus(asked), completion.plus(written)
            prompt, completions = (
                prompt.plus(asked.times(self._prompt_tokens(ask))),
                completions.plus(asked.times(ask.n)),
            )
        out = rows.times(work.least, work.most)
        return Planned(round_, name, rows, out, requests, prompt, completion, completions)

    def _tokens_of(self, ask: Asks, limit: int) -> float:
        """Return a completion's tokens: those of sampled answers to the question, or a share of the limit."""
        sampled = self._measured.get("generate")
        if not ask.step and sampled and sampled.answer_tokens:
            return min(limit, sampled.answer_tokens)
        return limit * ask.share

    def _prompt_tokens(self, ask: Asks) -> float:
        """Return a prompt's tokens: template, question and what was written before it."""
        if not ask.step:
            return self.question_tokens + ask.before
        try:
            text = _MARKUP.sub("", self._prompts.source(ask.step))
        except Exception:  # a template of another name than the method says: the estimate does without
            text = ""
        return self.count_tokens(text) + self._bare_tokens + ask.before

    def count_tokens(self, text: str) -> int:
        """Return a text's tokens."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def chat_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Return a conversation's tokens as the model is asked."""
        try:
            return len(
                self._tokenizer.apply_chat_template(
                    list(messages), tokenize=True, return_dict=True, add_generation_prompt=True
                )["input_ids"]
            )
        except Exception:  # no template, or one that refuses a role: the run itself says so
            return self.count_tokens("\n".join(m["content"] for m in messages))

    @cached_property
    def sample(self) -> list[Row]:
        """A few tasks."""
        return list(islice(self.run.rows(self.run.tasks("train")), LOOKED_AT))

    @cached_property
    def question_tokens(self) -> float:
        """Mean tokens of the method's question, as it is asked."""
        return _mean([self.chat_tokens(self.method.question(row)) for row in self.sample])

    @cached_property
    def _bare_tokens(self) -> float:
        """Mean tokens of a task's question alone."""
        return _mean([self.count_tokens(row.payload["question"]) for row in self.sample])

    def _finished(self, round_: RoundKey, stage: str) -> Planned | None:
        """Return a stage as the run's manifest has it, None if it is not done."""
        manifest = self._done.manifest(self._done.stage(round_, stage)) if self._done else None
        if manifest is None:
            return None
        known = Measured.of([manifest])
        rows = Span(manifest.rows_in, manifest.rows_in)
        return _as_measured(round_, stage, rows, known)._replace(done=True, seconds=0.0)


def _first_engine(stage: Stage, recipe: Recipe) -> EngineSection | None:
    """Return the engine at a stage's first seat, None for a stage without seats."""
    return next((seat.engine or recipe.engine for seat in stage.seats.values()), None)


def _as_measured(round_: RoundKey, stage: str, rows: Span, known: Measured) -> Planned:
    out, requests, prompt, completion = (rows.times(share) for share in known.per_row())
    return Planned(round_, stage, rows, out, requests, prompt, completion)


def too_few_tasks(planner: Planner, rounds: int) -> str:
    """Return what is wrong when new_questions leaves too few tasks for the last round, or ""."""
    size, train = planner.recipe.questions_per_round or 0, planner.count("train")
    if not planner.recipe.new_questions or size * rounds <= train:
        return ""
    return (
        f"{rounds} rounds of {size} new questions need {size * rounds} tasks, and there are {train}: provide "
        "more tasks, fewer rounds or questions_per_round, or set new_questions: false."
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
