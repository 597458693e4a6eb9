"""What a method is: four stages, their options, and how verified rows become training examples and preference pairs."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from pipeline.engines.base import Message
from pipeline.errors import ConfigError
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM

STAGES = ("generate", "critique", "filter", "verify")
TRAIN, TRAIN_SFT = "train", "train_sft"  # folders of a round's training, and of the first of two

StageFunction = Callable[[Row, LLM], Awaitable[Outcome]]
# A dataset step sees all rows of a stage, in order, and says for each whether it is kept (None), why not, or what is made of it (Kept).
DatasetStep = Callable[[Callable[[], Iterable[Row]]], Iterator[tuple[Row, Dropped | Kept | None]]]


class Options(BaseModel):
    """Base of every method's options: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")
    name: str


@dataclass(slots=True, frozen=True)
class Stage:
    """One stage: a function from row to outcome (None: rows pass through), then steps over all its rows."""

    row: StageFunction | None = None
    steps: dict[str, DatasetStep] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()  # templates used, relative to prompts/: they are part of the fingerprint
    config: Any = None  # what else the outcome depends on (JSON): part of the fingerprint
    version: int = 1  # raise it when the code's behaviour changes: stored output of the old version is then refused


@dataclass(slots=True, frozen=True)
class Example:
    """One supervised example in conversational prompt-completion form; loss falls on `completion` only."""

    prompt: list[Message]
    completion: list[Message]
    role: str = ""  # which of the method's roles learns it


@dataclass(slots=True, frozen=True)
class Pair:
    """One preference: two answers to one prompt, and the rows they come from."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    chosen_row: Row
    rejected_row: Row


class Method(ABC):
    """Base class of methods. A subclass sets `name` and `Options` and says what its stages, question and examples are."""

    name: ClassVar[str]
    Options: ClassVar[type[Options]]
    roles: ClassVar[tuple[str, ...]] = ()  # parts that the model plays; each can have an adapter of its own (train.adapters)
    measured: ClassVar[str] = "accuracy"  # what evaluation's number is, for titles

    def __init__(self, recipe: Any) -> None:
        """`recipe` is the resolved pipeline.config.Recipe; `self.options` the method's own part of it."""
        self.recipe = recipe
        self.options = self.Options.model_validate(recipe.method)
        if recipe.train.adapters and not (self.roles and recipe.train.lora and recipe.train.kind == "sft"):
            raise ConfigError(f"train.adapters needs train.lora, train.kind sft and a method with roles; {self.name} has {', '.join(self.roles) or 'none'}.")

    @abstractmethod
    def stages(self) -> dict[str, Stage]:
        """Return the four stages by name (see STAGES); an empty Stage() lets rows pass through."""

    @abstractmethod
    def question(self, row: Row) -> list[Message]:
        """Return the chat that asks a task row's question, as evaluation asks it. It never contains the answer."""

    @abstractmethod
    def examples(self, row: Row) -> list[Example]:
        """Return the training examples that one verified row, or one real demonstration, gives."""

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

    def question_prompts(self) -> tuple[str, ...]:
        """Return the templates that `question` renders, for evaluation's fingerprint; as a rule, those of generate."""
        return self.stages()["generate"].prompts

    @property
    def verifier(self) -> str:
        """Return what the card of a dataset says of how its rows were verified."""
        return self.recipe.verifier

    def evaluation(self, name: str | None) -> Stage | None:
        """Return how the held-out set (None), or the set `name`, is evaluated; None: asked greedily, and the answers verified.

        Its rows have in their payload `greedy`: {"text", "correct" (a score from 0 to 1), "extracted" (None: not understood), "tokens"},
        and `samples`: [] or a list of such.
        """
        return None

    def measures(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return what else is to be said of a set's evaluated rows: it joins their score in evaluation/round-NNN.json."""
        return {}

    def report(self, run: Any) -> None:
        """Write into the run (pipeline.rundir.RunDir) what there is to see of the method; called after each evaluation."""
        return None

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Return what the card of a dataset made of these published rows should say of them, one line each."""
        return []
