"""What a verifier with settings is: it may ask models, each at a seat of the stage verify."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from pipeline.config import AnyEngine, VerifierSection
from pipeline.payload import Key, declare
from pipeline.protocols import Asks
from pipeline.rows import Row
from pipeline.runner.llm import LLM
from pipeline.stage import UNTRAINED, DatasetStep, Seat
from stages.steps.verifiers import Verdict

JUDGEMENTS = "judgements"
LOW_SCORE = "low_score"  # drop reason of an answer that a model does not approve
UNREADABLE = "unreadable_judgement"
declare(
    {
        JUDGEMENTS: Key(
            "verify", "verify", "by verifier: score and approved, with reason or reply, of each model asked"
        )
    }
)


class Judged(NamedTuple):
    """A verdict whose score goes from 0 to 1 (a reward model's: any), and what the models asked have said,
    by the verifier's label: `score` as the model gave it (None: unreadable), `approved` if a threshold
    decides that, `reason` or the unreadable `reply`.

    `refused` is the drop reason of an incorrect answer without a problem.
    """

    verdict: Verdict
    said: Mapping[str, dict[str, Any]] = MappingProxyType({})
    refused: str = LOW_SCORE


class Keeping(VerifierSection):
    """Which of the approved answers are kept: decided in a pass over all rows."""

    top_share: float | None = Field(None, gt=0, le=1)
    """Of the approved answers, keep this share with the highest scores. Only of the outermost verifier."""
    top_of: Literal["question", "all"] = "question"
    """Whether that share is one of each question's answers (at least one is kept), or of all answers."""

    def check(self, recipe: Any) -> None:
        """Raise ConfigError for templates and engines that cannot work."""
        from stages.judges.stage import checked  # which makes the verifier of its section

        checked(recipe, self)


class Asking(Keeping):
    """A verifier that asks a model."""

    model: str = UNTRAINED
    """untrained: the base model, the same in every round. round: the model that wrote the answers. Otherwise
    a folder or Hub id, served by vLLM. An endpoint answers with its own model, whatever this says."""
    engine: AnyEngine | None = None
    """An engine of its own, such as an endpoint. Default: the recipe's engine."""

    def described(self) -> str:
        """Return kind and model."""
        served = getattr(self.engine, "model", None) if self.engine else None
        by = served or {UNTRAINED: "the untrained model", "round": "the round's model"}.get(self.model)
        return f"{self.kind} ({by or self.model})"


class Verifier(ABC):
    """Base of verifiers with settings. A recipe names a subclass as `verifier: {kind: module:Name, ...}`."""

    Config: ClassVar[type[VerifierSection]]
    """Class of the section with its settings."""
    prompts: tuple[str, ...] = ()
    """Templates that it renders."""
    completed: Callable[[Callable[[], Iterable[Row]], int], Iterator[Row]] | None = None
    """See Stage.completed."""

    def __init__(self, config: Any, label: str) -> None:
        """`label` is its seat and its name among the verifiers of a recipe."""
        self.config, self.label = config, label

    @abstractmethod
    async def judge(self, row: Row, llm: LLM) -> Judged:
        """Judge the answer in payload["text"]. A model is asked by `llm.at(self.label)`."""

    @property
    def seats(self) -> dict[str, Seat]:
        """The models that it asks, by seat."""
        if not isinstance(self.config, Asking):
            return {}
        return {self.label: Seat(self.config.model, self.config.engine, f"verifier {self.label}")}

    def asks(self) -> tuple[Asks, ...]:
        """Return what it asks about one answer, for --plan."""
        return ()

    def steps(self) -> dict[str, DatasetStep]:
        """Return steps over all judged rows, before those that keep and drop."""
        return {}


def decided(approved: bool, threshold: float | None) -> dict[str, bool]:
    """Return whether an answer is approved, for Judged.said; {} if no threshold decides that."""
    return {} if threshold is None else {"approved": approved}


def shown(score: float | None) -> str:
    """Return a score for people."""
    return "none" if score is None else f"{score:.3g}"
