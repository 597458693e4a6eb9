"""What a method is: four stages, their options, and how verified rows become training examples and preference pairs."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, model_validator

from pipeline import registry
from pipeline.engines.base import Completion, EngineSection, Message, Sampling
from pipeline.errors import ConfigError
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM

STAGES = ("generate", "critique", "filter", "verify")
PROPOSE = "propose"  # before generate, in methods that make questions of their own
TRAIN, TRAIN_SFT = "train", "train_sft"  # folders of a round's training, and of the first of two
RESUMED = "resume"  # folder of what a model makes of the beginnings of failed attempts (Method.resumption)

StageFunction = Callable[[Row, LLM], Awaitable[Outcome]]
# A dataset step sees all rows of a stage, in order, and says for each whether it is kept (None), why not, or what is made of it (Kept).
DatasetStep = Callable[[Callable[[], Iterable[Row]]], Iterator[tuple[Row, Dropped | Kept | None]]]
# What is to be said of a whole stage: from the rows it passed on, and those it dropped, each with its reason, to JSON for its manifest.
# A value under "note" is a sentence for people. Raises StageError when the run must not go on with such rows.
StageFacts = Callable[[Iterable[Row], Iterable[tuple[str, Row]]], dict[str, Any]]
UNTRAINED = "untrained"  # see Method.engine


class Options(BaseModel):
    """Base of every method's options: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")
    presets: ClassVar[
        dict[str, dict[str, Any]]
    ] = {}  # by the option `preset`: what other options then are, unless they are set themselves
    name: str

    @model_validator(mode="before")
    @classmethod
    def _lay_over_preset(cls, data: Any) -> Any:
        preset = (
            data.get("preset", cls.model_fields["preset"].default)
            if cls.presets and isinstance(data, dict)
            else None
        )
        return {**cls.presets.get(preset, {}), **data} if isinstance(preset, str) else data

    @classmethod
    def of_preset(cls, preset: Any = None) -> dict[str, Any]:
        """Return the options that presets are about, as they are with `preset` (default: the default's) and nothing else."""
        if not cls.presets:
            return {}
        own = cls.presets.get(preset if isinstance(preset, str) else cls.model_fields["preset"].default, {})
        return {
            key: own.get(key, cls.model_fields[key].default)
            for parts in cls.presets.values()
            for key in parts
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return what outcomes depend on, as JSON."""
        return self.model_dump(mode="json")


@dataclass(slots=True, frozen=True)
class Stage:
    """One stage: a function from row to outcome (None: rows pass through), then steps over all its rows."""

    row: StageFunction | None = None
    steps: dict[str, DatasetStep] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()  # templates used, relative to prompts/: they are part of the fingerprint
    config: Any = None  # what else the outcome depends on (JSON): part of the fingerprint
    version: int = (
        1  # raise it when the code's behaviour changes: stored output of the old version is then refused
    )
    facts: StageFacts | None = None


class Proposals(NamedTuple):
    """How many requests for new questions a round makes, how many known ones each shows, and from which ROUGE-L on one is no new one."""

    calls: int
    shown: int
    max_rouge: float


@dataclass(slots=True, frozen=True)
class Example:
    """One supervised example in conversational prompt-completion form; loss falls on `completion` only.

    In a method whose `dataset` is turns, `completion` is the rest of a conversation, and `learn` tells for each of its messages
    whether loss falls on it; `record` is what the method calls this sort of example.
    """

    prompt: list[Message]
    completion: list[Message]
    learn: tuple[bool, ...] = ()
    record: str = ""
    role: str = ""  # which of the method's roles learns it
    sampling: Any = None  # parameters (JSON) it was sampled with, where they are not the row's


@dataclass(slots=True, frozen=True)
class Pair:
    """One preference: two answers to one prompt, and the rows they come from."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    chosen_row: Row
    rejected_row: Row
    sampling: Any = (
        None  # parameters (JSON) that the two were sampled with, where they are not the chosen row's
    )


class Method(ABC):
    """Base class of methods. A subclass sets `name` and `Options` and says what its stages, question and examples are."""

    name: ClassVar[str]
    Options: ClassVar[type[Options]]
    dataset: ClassVar[str] = (
        "sft"  # the kind of dataset its examples, or texts, are published as (pipeline.publish.kinds)
    )
    roles: ClassVar[
        tuple[str, ...]
    ] = ()  # parts that the model plays; each can have an adapter of its own (train.adapters)
    measured: ClassVar[str] = "accuracy"  # what evaluation's number is, for titles

    def __init__(self, recipe: Any) -> None:
        """`recipe` is the resolved pipeline.config.Recipe; `self.options` the method's own part of it."""
        self.recipe = recipe
        self.options = self.Options.model_validate(recipe.method)
        if recipe.train.kind == "cpt" and self.dataset != "cpt":
            raise ConfigError(
                f"train.kind cpt trains on texts, and method {self.name} makes none; take a method that does, such as entigraph."
            )
        if recipe.train.adapters and not (self.roles and recipe.train.lora and recipe.train.kind == "sft"):
            raise ConfigError(
                f"train.adapters needs train.lora, train.kind sft and a method with roles; {self.name} has {', '.join(self.roles) or 'none'}."
            )

    @abstractmethod
    def stages(self) -> dict[str, Stage]:
        """Return the four stages by name (see STAGES); an empty Stage() lets rows pass through."""

    @abstractmethod
    def question(self, row: Row) -> list[Message]:
        """Return the chat that asks a task row's question, as evaluation asks it. It never contains the answer."""

    @abstractmethod
    def examples(self, row: Row) -> list[Example]:
        """Return the training examples that one verified row, or one real demonstration, gives."""

    def said(self, row: Row) -> str:
        """Return the text by which a row is known as a repetition of another one of its question."""
        return str(row.payload["text"])

    def learnt(self, row: Row) -> list[str]:
        """Return the texts of a row that a model learns to write: in none of them may a held-out question be."""
        return [str(row.payload["text"])]

    def identity(self, row: Row) -> str:
        """Return the text by which an answer is known as a repetition of another one where pairs are made of answers."""
        return str(row.payload["text"])

    def texts(self, row: Row) -> list[str]:
        """Return the texts that one verified row gives, in a method whose `dataset` is cpt: continued pretraining trains on texts in place of examples."""
        return []

    def publish_steps(self, round_: int, tokenizer: Any) -> dict[str, DatasetStep]:
        """Return further steps over all rows of a round that are published, after the shared ones. They depend on the options alone."""
        return {}

    def pairs(self, right: Sequence[Row], wrong: Sequence[Row]) -> Iterable[Pair]:
        """Return every preference pair that one question's answers of one round can give; the recipe chooses among them.

        `right` are verified rows, `wrong` those that verify dropped as wrong (payload["verdict"] tells what was found). By default
        each right one is paired with each wrong one where their examples have the same prompt. A method whose rows hold both
        versions of an answer may pair a row with itself: the better text chosen, the worse one rejected.
        """
        examples = {row.id: self.examples(row) for row in (*right, *wrong)}
        for a, b in product(right, wrong):
            for better, worse in product(examples[a.id], examples[b.id]):
                if better.prompt == worse.prompt:
                    yield Pair(better.prompt, better.completion, worse.completion, a, b)

    def engine(self, stage: str, round_: int) -> EngineSection | str | None:
        """Return what a stage asks in a round where that is not the round's generator (None).

        An engine of its own, such as an endpoint, or UNTRAINED: the untrained model, on the recipe's engine.
        """
        return None

    def proposals(self, round_: int) -> Proposals | None:
        """Return how a round makes questions of its own, beside those it draws; a method that does so has a stage "propose".

        That stage's function gets rows with known questions in payload["shown"], and gives task rows without an answer.
        """
        return None

    def refinement(self) -> Any:
        """Return what `improve` depends on (JSON, for evaluation's fingerprint); None for a method that answers once."""
        return None

    async def improve(self, row: Row, answer: Completion, llm: LLM, sampling: Sampling) -> Completion:
        """Return what the model makes of its own answer to a question when the method lets it think again. `sampling` is the answer's."""
        return answer

    def question_prompts(self) -> tuple[str, ...]:
        """Return the templates that `question` renders, for evaluation's fingerprint; as a rule, those of generate."""
        return self.stages()["generate"].prompts

    def example_prompts(self) -> tuple[str, ...]:
        """Return the templates that `examples` and `pairs` render, for publishing's fingerprint; as a rule, the question's."""
        return self.question_prompts()

    def evaluation(self, name: str | None) -> Stage | None:
        """Return how one row of the held-out set (None), or of the set `name`, is evaluated.

        None: by a greedy answer to `question`, and samples, judged by the verifier. A stage of the method's own gives one row for each, whose
        payload has `greedy`, the judged answer, and `samples`, a list of evaluate.samples of them. A judged answer has text, tokens,
        `correct` (true or false, or a score from 0 to 1), `extracted` (None: not understood) and, for votes among samples, `key`.
        The recipe's section evaluate is part of its fingerprint anyway.
        """
        return None

    def resumption(self) -> Stage | None:
        """Return how a model goes on from the beginning of an attempt that failed, or None where that is not measured.

        The rows that go in are evaluated rows of the first model of the run whose greedy answer was wrong, so that all later models go on
        from the same beginnings. Each row that comes out has payload["resumed"], with a `score` from 0 to 1.
        """
        return None

    def measures(self, rows: Sequence[Row]) -> dict[str, list[float]]:
        """Return what else a set's evaluated rows show, by name: one number for each row that it can be said of.

        Mean, interval and distribution of each are reported under "measures" in evaluation/round-NNN.json.
        """
        return {}

    def report(self, run: Any) -> None:
        """Write into the run (pipeline.rundir.RunDir) what there is to see of the method; called when a round is published, and after each evaluation."""
        return None

    def verified_by(self, round_: int) -> str:
        """Return what judged the rows that a round publishes, for the dataset's card; "" where nothing did."""
        return str(self.recipe.verifier)

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Return what the card of a dataset made of these published rows should say of them, one line each."""
        return []

    def pair_notes(self, round_: int) -> list[str]:
        """Return what the card of a round's preference pairs should say, one line each."""
        return []


def method_stage(name: str, recipe: Any) -> Stage:
    """Return one of the stages of a recipe's method; workers call this to build theirs, so nothing is imported here that one does not need."""
    return registry.resolve("method", recipe.method["name"])(recipe).stages()[name]
