"""A language model as judge: one answer at a time, by a rubric."""

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from pipeline.engines.base import Sampling
from pipeline.protocols import Asks
from pipeline.rows import Row
from pipeline.runner.llm import LLM
from stages.judges.base import UNREADABLE, Asking, Judged, Verifier, decided
from stages.judges.reading import Unreadable, read_score, score_schema
from stages.judges.untrusted import asked, defused, fence
from stages.steps.verifiers import Verdict

SCORE = "judge/score"
SHOWN = 200  # characters of an unreadable reply that the drop's detail shows
REASON_SHARE = 0.4  # of max_tokens that a judgement is taken to need


class Questioning(Asking):
    """What every judge that replies in words can be told."""

    rubric: str = ""
    """What makes an answer good, in words. Default: the template's rubric."""
    temperature: float = Field(0.0, ge=0)
    max_tokens: PositiveInt = 256
    """Of a judgement; one that is cut off is unreadable."""
    structured: bool = True
    """Ask for JSON by guided decoding (json_schema). false for an endpoint that refuses it: replies that are
    not the JSON object which the prompt asks for are then unreadable."""

    @model_validator(mode="after")
    def _replies_in_words(self) -> "Questioning":
        if self.engine is not None and not self.engine.implementation.writes_text:
            raise ValueError(
                f"engine.kind {self.engine.kind} gives scores, and a judge replies in words and JSON; "
                "expected vllm or openai, or kind reward_model in place of judge"
            )
        return self

    def sampling(self, given: Sampling) -> Sampling:
        """Return the parameters of a judgement: the answers' own would not suit it."""
        return Sampling(temperature=self.temperature, max_tokens=self.max_tokens, seed=given.seed)


class JudgeConfig(Questioning):
    """Settings of `judge`."""

    kind: Literal["judge"] = "judge"
    scale: tuple[int, int] = (1, 10)
    """The lowest and the highest score, whole numbers."""
    threshold: int | None = 7
    """Approve answers with this score or a higher one. null: all with a readable judgement."""

    @model_validator(mode="after")
    def _on_the_scale(self) -> "JudgeConfig":
        low, high = self.scale
        if not low < high <= low + 100:
            raise ValueError(f"scale: [{low}, {high}]; expected two whole numbers such as [1, 10]")
        if self.threshold is not None and not low <= self.threshold <= high:
            raise ValueError(f"threshold {self.threshold} is not on the scale from {low} to {high}")
        return self


class Judge(Verifier):
    """Asks for a reason and a score, in this order."""

    Config = JudgeConfig
    config: JudgeConfig
    prompts = (SCORE,)

    async def judge(self, row: Row, llm: LLM) -> Judged:
        """Ask for the score of the row's answer. Problem: unreadable_judgement."""
        c, (lowest, highest) = self.config, self.config.scale
        question, answer = asked(row.payload), defused(row.payload["text"])
        [reply] = await llm.at(self.label).ask(
            SCORE,
            sampling=c.sampling(llm.sampling),
            json_schema=score_schema(lowest, highest) if c.structured else None,
            question=question,
            options=[defused(option) for option in row.payload.get("options") or ()],
            answer=answer,
            fence=fence(question, answer),
            rubric=c.rubric,
            lowest=lowest,
            highest=highest,
        )
        found = read_score(reply, lowest, highest)
        if isinstance(found, Unreadable):
            said: dict[str, Any] = {"score": None, **decided(False, c.threshold), "reply": reply.text}
            detail = f"{found.problem}: {reply.text[:SHOWN]!r}"
            return Judged(Verdict(False, None, UNREADABLE, None, detail), {self.label: said})
        approved = c.threshold is None or found.score >= c.threshold
        said = {"score": found.score, **decided(approved, c.threshold), "reason": found.reason}
        detail = "" if approved else f"score {found.score}, threshold {c.threshold}: {found.reason}"
        score = (found.score - lowest) / (highest - lowest)
        return Judged(Verdict(approved, None, "", score, detail), {self.label: said})

    def asks(self) -> tuple[Asks, ...]:
        """One request, whose prompt holds the answer."""
        return (Asks(SCORE, max_tokens=self.config.max_tokens, share=REASON_SHARE, before=0),)
