"""What a method may do beyond its four stages, one small protocol each.

A method takes part in a protocol by defining its methods; nothing has to be inherited or registered. The
machinery asks with `isinstance(method, ProposesQuestions)` and falls back to the default that each protocol
names.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pipeline.engines.base import Completion, EngineSection, Message, Sampling
from pipeline.rows import Row
from pipeline.rundir import RoundKey, RunDir
from pipeline.runner.llm import LLM
from pipeline.stage import UNTRAINED as UNTRAINED  # what ChoosesEngines may name
from pipeline.stage import DatasetStep, Seat, Stage


class Proposals(NamedTuple):
    """`calls` requests for new questions, each showing `shown` known ones; ROUGE-L of `max_rouge` or more is
    a duplicate.
    """

    calls: int
    shown: int
    max_rouge: float


@dataclass(slots=True, frozen=True)
class Pair:
    """One preference: two answers to one prompt, and the rows they come from."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    chosen_row: Row
    rejected_row: Row
    sampling: Any = (
        None  # sampling parameters (JSON) of both answers, where they differ from the chosen row's
    )


class Asks(NamedTuple):
    """Requests of one kind that a row makes: how many, and how long prompt and completion are."""

    step: str = ""  # the template; "": the method's question, exactly as asked
    least: int = 1  # requests per row
    most: int = 1
    n: int = 1  # completions per request
    max_tokens: int | None = None  # of a completion; None: the recipe's
    share: float = 0.5  # of max_tokens that a completion is taken to need
    before: float = 0  # tokens of earlier texts in the prompt, beside template and question
    total: int = 0  # completion tokens of all requests together, where the method sets them


class Work(NamedTuple):
    """What one row of a stage asks for, and into how many rows it becomes at least and at most."""

    asks: tuple[Asks, ...] = ()
    least: int = 0
    most: int = 1


@runtime_checkable
class Plans(Protocol):
    """Says beforehand what a row asks of the model, for `selfloop iterate --plan`.

    Default: a stage without templates asks nothing; of another stage nothing is known.
    """

    def work(self, stage: str, round_: RoundKey) -> Work | None:
        """Return the work of one row, or None for the default.

        `stage` is one of the round's, or "publish" (rows: examples per verified row), "evaluate" and
        "evaluate-<set>" (for a method that Evaluates) or "improve" (per answer, see RefinesAnswers).
        Bounds hold unless replies are blank, refused or fail.
        """
        ...


@runtime_checkable
class ProposesQuestions(Protocol):
    """Writes new questions, beside those drawn from the tasks, in a stage "propose". Default: questions are
    only drawn.

    That stage's function gets rows with known questions in payload["shown"] and returns task rows without an
    answer.
    """

    def proposals(self, round_: int) -> Proposals | None:
        """Return how many questions a round asks for, or None for a round without proposals."""
        ...


@runtime_checkable
class ChoosesEngines(Protocol):
    """Sends some stages to another engine. Default: every stage asks the model that generates the round."""

    def engine(self, stage: str, round_: int) -> EngineSection | Seat | str | None:
        """Return an engine section (such as an endpoint), the seat of another model, UNTRAINED for the base
        model, or None for the round's model.
        """
        ...


@runtime_checkable
class RefinesAnswers(Protocol):
    """Lets the model revise its own answer in evaluation. Default: the first answer counts."""

    def refinement(self) -> Any:
        """Return what `improve` depends on (JSON, for the fingerprint), or None when evaluation does not
        refine.
        """
        ...

    async def improve(self, row: Row, answer: Completion, llm: LLM, sampling: Sampling) -> Completion:
        """Return the revised answer to the question in `row`.

        `sampling` is what `answer` was sampled with.
        """
        ...


@runtime_checkable
class MakesPairs(Protocol):
    """Builds preference pairs its own way.

    Default: each right answer against each wrong one with the same prompt.
    """

    def pairs(self, right: Sequence[Row], wrong: Sequence[Row]) -> Iterable[Pair]:
        """Return every pair that one question's answers of one round allow; the recipe's `preferences` choose
        among them.

        `right` are verified rows, `wrong` those that verify dropped. A row that holds two versions of an
        answer may be paired with itself.
        """
        ...


@runtime_checkable
class KeysPairs(Protocol):
    """Identifies answers by something other than payload["text"] when repeated answers are left out of the
    pairs.
    """

    def pair_key(self, row: Row) -> str:
        """Return the text that makes two answers the same."""
        ...


@runtime_checkable
class DescribesPairs(Protocol):
    """Adds lines to the card of preference pairs."""

    def pair_notes(self, round_: int) -> list[str]:
        """Return lines for the card of a round's pairs."""
        ...


@runtime_checkable
class DeduplicatesBy(Protocol):
    """Compares rows by something other than payload["text"] when duplicates are dropped."""

    def dedup_text(self, row: Row) -> str:
        """Return the text that makes two rows of one question duplicates."""
        ...


@runtime_checkable
class TrainsOnTexts(Protocol):
    """Trains on more texts than payload["text"]: all of them are searched for held-out questions."""

    def trained_texts(self, row: Row) -> list[str]:
        """Return every text of a row that ends up in training data."""
        ...


@runtime_checkable
class WritesTexts(Protocol):
    """Publishes plain texts for continued pretraining (`dataset = "cpt"`) in place of examples."""

    def texts(self, row: Row) -> list[str]:
        """Return the texts that one verified row yields."""
        ...


@runtime_checkable
class AddsPublishSteps(Protocol):
    """Adds dataset steps to publishing, after the shared ones."""

    def publish_steps(self, round_: int, tokenizer: Any) -> dict[str, DatasetStep]:
        """Return steps by name. They may depend on the method's options only."""
        ...


@runtime_checkable
class MixesGeneral(Protocol):
    """Mixes general conversations into each round's dataset."""

    general: Any  # stages.tasks.general.General, or None for none


@runtime_checkable
class Evaluates(Protocol):
    """Evaluates its own way.

    Default: one greedy answer to `question`, and samples, judged by the verifier.
    """

    def evaluation(self, name: str | None) -> Stage | None:
        """Return how a row of the held-out set (None) or of the set `name` is evaluated; None for the default
        way.

        The stage returns one row each, with payload["greedy"], a judged answer, and payload["samples"], a
        list of evaluate.samples of them, or an empty one: no pass@k. A judged answer has `text`, `tokens`,
        `correct` (a bool, or a score from 0 to 1), `extracted` (None: unreadable) and, for votes among
        samples, `key`. The recipe's `evaluate` is part of the fingerprint anyway.
        """
        ...


@runtime_checkable
class ResumesAttempts(Protocol):
    """Measures how a model continues a failed attempt. Default: not measured."""

    def resumption(self) -> Stage:
        """Return the stage that continues attempts.

        Its input is the evaluated rows that the run's first model got wrong, so that all later models
        continue the same beginnings. Each output row has payload["resumed"]["score"], from 0 to 1.
        """
        ...


@runtime_checkable
class Measures(Protocol):
    """Measures more than correctness in evaluation."""

    def measures(self, rows: Sequence[Row]) -> dict[str, list[float]]:
        """Return values by name, one per evaluated row that has one; evaluation reports mean, interval and
        quantiles.
        """
        ...


@runtime_checkable
class Advises(Protocol):
    """Says at the start of a run which settings do not fit what the method asks for. Default: nothing."""

    def advice(self, tasks: Sequence[Row]) -> list[str]:
        """Return one line per misfit, with a value that fits; `tasks` are some of the run's."""
        ...


@runtime_checkable
class Reports(Protocol):
    """Writes its own report into the run directory, after publishing and after each evaluation."""

    def report(self, run: RunDir) -> None:
        """Write the report."""
        ...


@runtime_checkable
class NamesVerifier(Protocol):
    """Judges rows with something other than the recipe's verifier."""

    def verified_by(self, round_: int) -> str:
        """Return what judged a round's rows, for the dataset card; "" for nothing."""
        ...


@runtime_checkable
class DescribesData(Protocol):
    """Adds lines to the dataset card."""

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Return one line per note about these published rows."""
        ...
