"""What a stage is: a function from one row to an outcome, and steps over all rows. Also the names of a
round's stages.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.engines.base import EngineSection
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM

if TYPE_CHECKING:
    from pipeline.protocols import Work

STAGES = ("generate", "critique", "filter", "verify")  # every method has these four, in this order
PROPOSE = "propose"  # before generate, in methods that write questions of their own
PUBLISH = "publish"
PAIRS, LABELS = "pairs", "labels"  # what dpo and kto train on
TRAIN, TRAIN_SFT = "train", "train_sft"  # TRAIN_SFT: the supervised half of sft_then_dpo and the like
UNTRAINED, ROUND = "untrained", "round"  # models by their part in the run: the base model, the round's
ANSWER = "answer"  # before evaluate, where a model judges the held-out answers
RESUMED = "resume"  # how a model continues the beginnings of failed attempts (protocols.ResumesAttempts)

StageFunction = Callable[[Row, LLM], Awaitable[Outcome]]
# A dataset step sees all rows of a stage and yields each of them once: None keeps it, Dropped drops it, Kept
# replaces it.
DatasetStep = Callable[[Callable[[], Iterable[Row]]], Iterator[tuple[Row, Dropped | Kept | None]]]
# Summarizes a finished stage for its manifest, from the kept rows and the (reason, row) pairs it dropped. The
# value under "note" is a sentence for people. Raises StageError to stop a run that must not continue with
# these rows.
Summary = Callable[[Iterable[Row], Iterable[tuple[str, Row]]], dict[str, Any]]


@dataclass(slots=True, frozen=True)
class Seat:
    """A model that a stage asks in place of the round's: UNTRAINED, ROUND, or a folder or Hub id; and the
    engine that serves it, the recipe's by default. Messages call it `called`.
    """

    model: str = UNTRAINED
    engine: EngineSection | None = None
    called: str = ""


@dataclass(slots=True, frozen=True)
class Stage:
    """One stage: a function per row (None passes rows through unchanged), then steps over all rows."""

    row: StageFunction | None = None
    steps: dict[str, DatasetStep] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()  # names of the templates it renders: their text is part of the fingerprint
    config: Any = None  # whatever else its outcomes depend on (JSON): part of the fingerprint
    version: int = 1  # raise it when the code's behavior changes, so that output of older code is refused
    summary: Summary | None = None
    # The models that it asks in place of the round's, by the name that LLM.at takes.
    seats: Mapping[str, Seat] = field(default_factory=dict)
    # Completes the rows that the function gets, from (all input rows, their number): same ids, any order.
    completed: Callable[[Callable[[], Iterable[Row]], int], Iterator[Row]] | None = None
    work: "Work | None" = None  # what a row asks for, where the stage knows it and not the method
