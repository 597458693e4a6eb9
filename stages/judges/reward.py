"""A reward model: a sequence-classification model, or an endpoint, that scores an answer to a question."""

import math
from typing import Any, Literal

import orjson
from pydantic import Field, NonNegativeInt, model_validator

from pipeline.config import AnyEngine, ClassifierEngine
from pipeline.engines.base import Sampling
from pipeline.errors import DataError
from pipeline.protocols import Asks
from pipeline.rows import Row
from pipeline.runner.llm import LLM
from stages.judges.base import UNREADABLE, Asking, Judged, Verifier, decided, shown
from stages.steps.asking import TASK, statement
from stages.steps.verifiers import Verdict

STEP = "reward_model"
# Nothing is sampled: a request's key must not depend on the recipe's parameters.
_SAMPLING = Sampling(temperature=0, max_tokens=1)


class RewardConfig(Asking):
    """Settings of `reward_model`."""

    kind: Literal["reward_model"] = "reward_model"
    model: str = ""
    """A folder or Hub id of a sequence-classification model. An endpoint (engine kind scores) needs none."""
    engine: AnyEngine = Field(default_factory=ClassifierEngine)
    """kind classifier (transformers, in Ray actors) or scores (an endpoint)."""
    label: NonNegativeInt | None = None
    """The class whose probability is the score, of a model with several. Default: the last one."""
    sigmoid: bool = False
    """Map the score of a model with one output to 0 to 1, as `weighted` needs it."""
    threshold: float | None = None
    """Approve answers with this score or a higher one."""

    @model_validator(mode="after")
    def _complete(self) -> "RewardConfig":
        if self.engine.implementation.writes_text:
            raise ValueError(f"engine.kind {self.engine.kind} gives no scores; expected classifier or scores")
        if not self.model and not self.engine.implementation.is_endpoint:
            raise ValueError("model is missing: expected a folder or Hub id of a reward model")
        return self


class RewardModel(Verifier):
    """Scores question and answer."""

    Config = RewardConfig
    config: RewardConfig
    prompts = (TASK,)

    async def judge(self, row: Row, llm: LLM) -> Judged:
        """Ask for the score of the row's answer. Problem: unreadable_judgement (no finite number)."""
        asked = {"role": "user", "content": statement(llm.prompts, row.payload)}
        turns = [*(row.payload.get("turns") or ()), asked]
        messages = [*turns, {"role": "assistant", "content": row.payload["text"]}]
        [reply] = await llm.at(self.label).chat(messages, step=STEP, sampling=_SAMPLING)
        score, threshold = self._score(orjson.loads(reply.text)), self.config.threshold
        if not math.isfinite(score):
            said: dict[str, Any] = {"score": None, **decided(False, threshold), "reply": reply.text}
            return Judged(
                Verdict(False, None, UNREADABLE, None, "the score is no number"), {self.label: said}
            )
        approved = threshold is None or score >= threshold
        detail = "" if approved else f"score {shown(score)}, threshold {threshold:g}"
        said = {"score": score, **decided(approved, threshold)}
        return Judged(Verdict(approved, None, "", score, detail), {self.label: said})

    def _score(self, outputs: list[float | None]) -> float:
        """Return the score from a model's outputs, one per class; NaN comes as null."""
        values = [math.nan if value is None else value for value in outputs]
        if len(values) == 1:
            return (
                1 / (1 + math.exp(-max(-700.0, min(700.0, values[0])))) if self.config.sigmoid else values[0]
            )
        label = len(values) - 1 if self.config.label is None else self.config.label
        if label >= len(values):
            raise DataError(f"verifier.label is {label}, and the model has classes 0 to {len(values) - 1}")
        highest = max(values)
        parts = [math.exp(value - highest) for value in values]
        return parts[label] / sum(parts)

    def asks(self) -> tuple[Asks, ...]:
        """One request, which writes nothing."""
        return (Asks(TASK, max_tokens=1, share=0.0),)
