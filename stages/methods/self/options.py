"""Options of the method `self` (stages/methods/self/method.py)."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.config import WorkerEngine
from pipeline.errors import ConfigError
from pipeline.methods import Options
from stages.steps.samples import StepSampling

WITH_TRUTH = "self_with_truth"  # payload["annotator"] where it is not an endpoint


class Steps(BaseModel):
    """The steps of both phases."""

    model_config = ConfigDict(extra="forbid")

    answer: StepSampling = Field(default_factory=StepSampling)
    feedback: StepSampling = Field(default_factory=StepSampling)
    refine: StepSampling = Field(default_factory=StepSampling)
    propose: StepSampling = Field(default_factory=StepSampling)


class NewQuestions(BaseModel):
    """Self-instruct. The real questions of a round stay as they are; these come on top."""

    model_config = ConfigDict(extra="forbid")

    calls: int = Field(25, ge=0, description="requests for new questions in a round; 0: none")
    shown: int = Field(
        6,
        ge=1,
        description="known questions shown in a request, a quarter of them model-made where there are such",
    )
    wanted: int = Field(4, ge=1, description="new questions that a request asks for")
    max_rouge: float = Field(
        0.7, gt=0, le=1, description="a question with this ROUGE-L or more to a known one is no new one"
    )
    from_round: int | None = Field(
        None, ge=1, description="default: the second round of phase 2, as in the paper"
    )


class SelfOptions(Options):
    """Options of `self`."""

    name: Literal["self"] = "self"
    annotator: WorkerEngine | None = Field(
        None,
        description="who writes the meta-skill corpus: an endpoint; null: the untrained model, shown the ground truth",
    )
    scaffold: bool = Field(
        False,
        description="where the untrained model annotates: begin its texts for it, the feedback up to the verdict; for models too small to write them",
    )
    meta_rounds: int = Field(1, ge=1, description="rounds of phase 1")
    samples: int = Field(
        1, ge=1, description="answers sampled per question, each with feedback and refinement of its own"
    )
    keep_per_question: int = Field(
        1, ge=1, description="accepted rows kept per question and round (seeded choice)"
    )
    verdict_words: tuple[str, str] = Field(
        ("correct", "incorrect"),
        description="how a verdict says yes and no; [acceptable, needs work] for open tasks",
    )
    max_positive: float = Field(
        0.95, gt=0, le=1, description="a critic that says yes to a larger share stops the run"
    )
    keep_feedback: bool = Field(
        False,
        description="phase 2 rows give examples of feedback and refinement too, not of the direct answer alone",
    )
    refine_in_evaluation: bool = Field(
        True, description="evaluate self-refined answers as well, also of evaluate.samples"
    )
    new_questions: NewQuestions = Field(default_factory=NewQuestions)
    sampling: Steps = Field(default_factory=Steps)

    @model_validator(mode="after")
    def _two_words(self) -> "SelfOptions":
        self.verdict_words = tuple(word.strip() for word in self.verdict_words)
        yes, no = (word.casefold() for word in self.verdict_words)
        if not yes or not no or yes == no:
            raise ValueError(
                "verdict_words: expected two different words, yes first, such as [correct, incorrect]"
            )
        return self

    def fingerprint(self) -> dict[str, Any]:
        """As it is, but for how patiently an endpoint is asked."""
        return self.model_dump(mode="json", exclude={"annotator"}) | {"annotator": self.annotator_identity()}

    def annotator_name(self) -> str:
        """Return who annotates, as payload["annotator"] and the card name it."""
        return getattr(self.annotator, "model", None) or self.annotator.kind if self.annotator else WITH_TRUTH

    def annotator_identity(self) -> dict[str, Any] | None:
        """Return what the annotator's texts depend on."""
        return self.annotator.identity() if self.annotator else None

    def refuse_contradictions(self, recipe: Any) -> None:
        """Raise ConfigError where the recipe lacks what the annotator, or questions of the model's own, need."""
        if self.scaffold and (self.annotator is not None or recipe.engine.implementation.is_endpoint):
            raise ConfigError(
                "method.scaffold begins the texts of the untrained model from the ground truth; an endpoint as a rule writes its own from the start."
            )
        self._check_new_questions(recipe)
        if self.annotator is None and recipe.rounds > self.meta_rounds and not recipe.new_questions:
            raise ConfigError(
                "phase 2 would ask again the questions whose answers phase 1 was shown and trained on: set new_questions: true, and questions_per_round to at "
                f"most the tasks divided by {recipe.rounds} rounds. Or name an endpoint under method.annotator, which is shown no answers."
            )
        if self.annotator is None and (recipe.verifier == "majority_vote" or not recipe.tasks.columns.answer):
            raise ConfigError(
                "method.annotator is null, so the ground truth is shown to the model that writes the meta-skill corpus, and checks it: that needs "
                "tasks.columns.answer and a verifier other than majority_vote. Or name an endpoint under method.annotator."
            )

    def _check_new_questions(self, recipe: Any) -> None:
        new, tasks = self.new_questions, recipe.tasks
        first = new.from_round or self.meta_rounds + 2
        if not new.calls or recipe.rounds < first:
            return
        if tasks.columns.options or tasks.answer_type == "choice":
            raise ConfigError(
                "questions that the model makes have no options to choose from: set method.new_questions.calls: 0 for multiple-choice tasks."
            )
        if first <= self.meta_rounds and self.annotator is None:
            raise ConfigError(
                "method.new_questions.from_round is in phase 1, whose annotator is shown a truth that the model's own questions do not have."
            )

    def card_note(self, annotator: str) -> str:
        """Return what a card says of rows by this `annotator` (payload["annotator"]); "" for those of phase 2."""
        if not annotator:
            return "Evolution (phase 2): refined answers that the model itself approved; no ground truth was consulted."
        by = f"{annotator}, whose judgement is learnt here: distillation, not self-supervision"
        if annotator == WITH_TRUTH:
            by = (
                "self_with_truth, the untrained model itself, shown the ground truth while it wrote the feedback; what is wrong by that truth was dropped. "
                + (
                    "Its feedback was begun for it, up to the verdict, from the ground truth (scaffold). "
                    if self.scaffold
                    else ""
                )
                + "A deviation from the paper, whose annotator is a stronger model"
            )
        return f"Meta-skill corpus (phase 1): a row gives an example of the direct answer, one of feedback and one of refinement. Annotator: {by}."
