"""Options of the method `self` (stages/methods/self/method.py)."""

from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    TypeAdapter,
    model_validator,
)

from pipeline.config import WorkerEngine
from pipeline.engines.base import EngineSection
from pipeline.errors import ConfigError
from pipeline.methods import Options
from pipeline.stage import UNTRAINED, Seat
from stages.steps.other_model import OtherModel
from stages.steps.samples import StepSampling

WITH_TRUTH = "self_with_truth"  # payload["annotator"] when it is the untrained model


_ENDPOINT = TypeAdapter[Any](WorkerEngine)


def _annotator(value: Any) -> Any:
    """Read {model: ...} as a model, anything else as an endpoint."""
    if isinstance(value, OtherModel):
        return value
    if isinstance(value, dict) and "kind" not in value:
        return OtherModel.model_validate(value)
    return _ENDPOINT.validate_python(value)


Annotates = Annotated[SerializeAsAny[EngineSection] | OtherModel, BeforeValidator(_annotator)]


class Steps(BaseModel):
    """Sampling of each step, in both phases."""

    model_config = ConfigDict(extra="forbid")

    answer: StepSampling = Field(default_factory=StepSampling)
    feedback: StepSampling = Field(default_factory=StepSampling)
    refine: StepSampling = Field(default_factory=StepSampling)
    propose: StepSampling = Field(default_factory=StepSampling)


class NewQuestions(BaseModel):
    """Self-instruct: questions the model writes, on top of the real questions of a round."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    calls: int = Field(25, ge=0)
    """Requests for new questions per round; 0: none."""
    shown: int = Field(6, ge=1)
    """Known questions shown per request, a quarter of them model-written if there are any."""
    wanted: int = Field(4, ge=1)
    """New questions asked for per request."""
    max_rouge: float = Field(0.7, gt=0, le=1)
    """Questions at or above this ROUGE-L count as duplicates."""
    from_round: int | None = Field(None, ge=1)
    """First round with new questions; default: the second round of phase 2, as in the paper."""


class SelfOptions(Options):
    """Options of `self`."""

    late = ("skip_solved",)
    name: Literal["self"] = "self"
    annotator: Annotates | None = None
    """Who writes the meta-skill corpus: an endpoint, such as {kind: openai, ...}, or {model: folder or Hub
    id}, served by the recipe's engine or by an `engine` of its own; null: the untrained model, shown the
    ground truth."""
    scaffold: bool = False
    """Start the untrained annotator's texts for it, its feedback up to the verdict: for very small models."""
    bare_answers: bool = False
    """Keep refinements of phase 1 that are a final answer without working: for tasks that need none."""
    meta_rounds: int = Field(1, ge=1)
    """Rounds of phase 1."""
    samples: int = Field(1, ge=1)
    """Answers per question, each with feedback and refinement of its own."""
    keep_per_question: int = Field(1, ge=1)
    """Accepted rows kept per question and round (seeded sample)."""
    verdict_words: tuple[str, str] = ("correct", "incorrect")
    """The positive and the negative verdict; for open tasks e.g. [acceptable, needs work]."""
    max_positive: float = Field(0.95, gt=0, le=1)
    """When the critic of phase 2 approves a larger share, warn; stop the run if the ground truth shows that
    it does not find wrong answers."""
    max_approving: float = Field(0.6, gt=0, le=1)
    """Largest share of approving verdicts in what trains the critic: others, in a seeded choice, give their
    direct answer alone. 1: all are used."""
    skip_solved: bool = False
    """Publish nothing of questions whose first answers the critic of phase 2 all approved."""
    keep_feedback: bool = False
    """Train on feedback and refinement in phase 2 too, not on direct answers alone."""
    refine_in_evaluation: bool = True
    """Also evaluate self-refined answers, including those of evaluate.samples."""
    new_questions: NewQuestions = Field(default_factory=NewQuestions)
    """Questions of the model's own."""
    sampling: Steps = Field(default_factory=Steps)
    """Sampling per step."""

    @model_validator(mode="after")
    def _two_words(self) -> "SelfOptions":
        self.verdict_words = (self.verdict_words[0].strip(), self.verdict_words[1].strip())
        yes, no = (word.casefold() for word in self.verdict_words)
        if not yes or not no or yes == no:
            raise ValueError("verdict_words: expected two different words, yes first: [correct, incorrect]")
        return self

    def fingerprint(self) -> dict[str, Any]:
        """Return the options, but of the annotator only what its texts depend on."""
        return super().fingerprint() | {"annotator": self.annotator_identity()}

    def annotator_name(self) -> str:
        """Return the annotator's name in payload["annotator"] and on the dataset card."""
        by = self.annotator
        if by is None:
            return WITH_TRUTH
        if isinstance(by, OtherModel):
            if by.model:
                return PurePath(by.model).name if by.model[0] in "/.~" else by.model
            by = by.engine
        return str(getattr(by, "model", None) or getattr(by, "kind", ""))

    def annotator_seat(self) -> EngineSection | Seat | str:
        """Return whom phase 1 asks (pipeline.protocols.ChoosesEngines)."""
        by = self.annotator
        return by.seat("method.annotator") if isinstance(by, OtherModel) else by or UNTRAINED

    def annotator_identity(self) -> dict[str, Any] | None:
        """Return the annotator settings its texts depend on."""
        return self.annotator.identity() if self.annotator else None

    def refuse_contradictions(self, recipe: Any) -> None:
        """Raise ConfigError if the recipe lacks what the annotator or model-written questions need."""
        if isinstance(self.annotator, OtherModel):
            self.annotator.check(recipe, "method.annotator")
        if self.scaffold and (self.annotator is not None or recipe.engine.implementation.is_endpoint):
            raise ConfigError(
                "method.scaffold starts the untrained model's texts for it, "
                "which another annotator or an endpoint rarely allows: set it to false."
            )
        self._check_new_questions(recipe)
        if not all(isinstance(v, str | None) for v in (recipe.verifier, recipe.evaluate.verifier)):
            raise ConfigError(
                "method self is its own judge: verifier only measures it, and must be a function, such as "
                "ground_truth, not a model."
            )
        if self.annotator is None and recipe.rounds > self.meta_rounds and not recipe.new_questions:
            raise ConfigError(
                "phase 2 would ask questions whose answers phase 1 was shown and trained on: set "
                f"new_questions: true and questions_per_round to at most tasks / {recipe.rounds}, or set "
                "method.annotator to an endpoint or {model: ...}, which is shown no answers."
            )
        if self.annotator is None and (recipe.verifier == "majority_vote" or not recipe.tasks.columns.answer):
            raise ConfigError(
                "method.annotator is null, so the meta-skill corpus needs the ground truth: set "
                "tasks.columns.answer and a verifier other than "
                "majority_vote, or set method.annotator to an endpoint or {model: ...}."
            )

    def _check_new_questions(self, recipe: Any) -> None:
        first = self.new_questions.from_round or self.meta_rounds + 2
        if not self.new_questions.calls or recipe.rounds < first:
            return
        if recipe.tasks.columns.options or recipe.tasks.answer_type == "choice":
            raise ConfigError(
                "model-written questions have no options: set method.new_questions.calls: 0 for "
                "multiple-choice tasks."
            )
        if first <= self.meta_rounds and self.annotator is None:
            raise ConfigError(
                "method.new_questions.from_round is in phase 1, which needs a ground truth that "
                f"model-written questions lack: set it to {self.meta_rounds + 1} or more."
            )

    def card_note(self, annotator: str) -> str:
        """Return the dataset card's note on rows by `annotator` (payload["annotator"]), "" for phase 2."""
        if not annotator:
            return "Evolution (phase 2): refined answers the model itself approved. No ground truth was used."
        by = f"{annotator}, whose judgment is trained on here: distillation, not self-supervision"
        if annotator == WITH_TRUTH:
            started = "Its feedback was started for it, up to the verdict, from the ground truth (scaffold). "
            by = (
                "self_with_truth, the untrained model itself, shown the ground truth as it wrote the "
                "feedback; rows that the truth contradicts were dropped. "
                f"{started if self.scaffold else ''}A deviation from the "
                "paper, whose annotator is a stronger model"
            )
        return (
            "Meta-skill corpus (phase 1): each row gives a direct answer, a feedback and a refinement to "
            f"train on. Annotator: {by}."
        )
