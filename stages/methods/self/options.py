"""Options of the method `self` (stages/methods/self/method.py)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.config.recipe import OpenaiEngine, ScriptedEngine
from pipeline.errors import ConfigError
from pipeline.methods import Options
from stages.steps.samples import StepSampling

WITH_TRUTH = "self_with_truth"  # payload["annotator"] when it is not an endpoint


class Steps(BaseModel):
    """Sampling of each step, in both phases."""

    model_config = ConfigDict(extra="forbid")

    answer: StepSampling = Field(default_factory=StepSampling)
    feedback: StepSampling = Field(default_factory=StepSampling)
    refine: StepSampling = Field(default_factory=StepSampling)
    propose: StepSampling = Field(default_factory=StepSampling)


class NewQuestions(BaseModel):
    """Self-instruct: questions the model writes, on top of the real questions of a round."""

    model_config = ConfigDict(extra="forbid")

    calls: int = Field(25, ge=0, description="requests for new questions per round; 0: none")
    shown: int = Field(6, ge=1, description="known questions per request, up to a quarter model-written")
    wanted: int = Field(4, ge=1, description="new questions asked for per request")
    max_rouge: float = Field(0.7, gt=0, le=1, description="questions at or above this ROUGE-L are duplicates")
    from_round: int | None = Field(None, ge=1, description="first round; default: second of phase 2 (paper)")


class SelfOptions(Options):
    """Options of `self`."""

    name: Literal["self"] = "self"
    annotator: Annotated[OpenaiEngine | ScriptedEngine, Field(discriminator="kind")] | None = Field(
        None,
        description="endpoint that writes the meta-skill corpus; null: the untrained model, shown the truth",
    )
    scaffold: bool = Field(
        False,
        description="start the untrained annotator's texts, feedback up to the verdict; for small models",
    )
    meta_rounds: int = Field(1, ge=1, description="rounds of phase 1")
    samples: int = Field(1, ge=1, description="answers per question, each with its own feedback")
    keep_per_question: int = Field(1, ge=1, description="accepted rows kept per question (seeded sample)")
    verdict_words: tuple[str, str] = Field(
        ("correct", "incorrect"), description="positive, negative; e.g. acceptable, needs work for open tasks"
    )
    max_positive: float = Field(0.95, gt=0, le=1, description="stop when the critic approves a larger share")
    keep_feedback: bool = Field(False, description="phase 2 also trains on feedback and refinement")
    refine_in_evaluation: bool = Field(True, description="evaluate refined answers too, also of samples")
    new_questions: NewQuestions = Field(default_factory=NewQuestions)
    sampling: Steps = Field(default_factory=Steps)

    @model_validator(mode="after")
    def _two_words(self) -> "SelfOptions":
        self.verdict_words = tuple(word.strip() for word in self.verdict_words)
        yes, no = (word.casefold() for word in self.verdict_words)
        if not yes or not no or yes == no:
            raise ValueError("verdict_words: expected two different words, yes first: [correct, incorrect]")
        return self

    def fingerprint(self) -> dict[str, Any]:
        """Return the options, but of the annotator only what its texts depend on."""
        return self.model_dump(mode="json", exclude={"annotator"}) | {"annotator": self.annotator_identity()}

    def annotator_name(self) -> str:
        """Return the annotator's name in payload["annotator"] and on the dataset card."""
        return getattr(self.annotator, "model", None) or self.annotator.kind if self.annotator else WITH_TRUTH

    def annotator_identity(self) -> dict[str, Any] | None:
        """Return the annotator settings its texts depend on."""
        fields = {"kind", "base_url", "model", "extra_body", "answers"}
        return self.annotator.model_dump(mode="json", include=fields) if self.annotator else None

    def refuse_contradictions(self, recipe: Any) -> None:
        """Raise ConfigError if the recipe lacks what the annotator or model-written questions need."""
        if self.scaffold and (self.annotator is not None or isinstance(recipe.engine, OpenaiEngine)):
            raise ConfigError(
                "method.scaffold starts the untrained model's texts for it, which an endpoint rarely allows: "
                "set it to false."
            )
        self._check_new_questions(recipe)
        if self.annotator is None and recipe.rounds > self.meta_rounds and not recipe.new_questions:
            raise ConfigError(
                "phase 2 would ask questions whose answers phase 1 was shown and trained on: set "
                f"new_questions: true and questions_per_round to at most tasks / {recipe.rounds}, or set "
                "method.annotator to an endpoint, which is shown no answers."
            )
        if self.annotator is None and (recipe.verifier == "majority_vote" or not recipe.tasks.columns.answer):
            raise ConfigError(
                "method.annotator is null, so the meta-skill corpus needs the ground truth: set "
                "tasks.columns.answer and a verifier other than majority_vote, or set method.annotator to an "
                "endpoint."
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
                f"{started if self.scaffold else ''}A deviation from the paper, whose annotator is a "
                "stronger model"
            )
        return (
            "Meta-skill corpus (phase 1): each row gives a direct answer, a feedback and a refinement to "
            f"train on. Annotator: {by}."
        )
