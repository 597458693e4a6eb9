"""direct: sample k answers to each question, verify, keep at most c. The control arm every method is compared
with.
"""

from typing import Literal

from pydantic import Field

from pipeline.engines.base import Message
from pipeline.errors import EngineError
from pipeline.methods import Example, Method, Options, Stage
from pipeline.protocols import Work
from pipeline.rows import Kept, Outcome, Row
from pipeline.rundir import RoundKey
from pipeline.runner.llm import LLM
from stages.methods.direct import plan
from stages.steps import filters, verifiers
from stages.steps.samples import answer_fields

SOLVE = "direct/solve"


class DirectOptions(Options):
    """Options of `direct`."""

    name: Literal["direct"] = "direct"
    samples: int = Field(4, ge=1)
    """k: answers sampled per question and round."""
    sampled_tokens: int | None = Field(None, ge=1)
    """Keep sampling, `samples` answers first, until a question has cost this many tokens."""
    keep_per_question: int = Field(2, ge=1)
    """c: verified answers kept per question and round (seeded choice)."""


class Direct(Method):
    """Rejection sampling: generate k answers, drop the malformed, keep the right ones."""

    name = "direct"
    Options = DirectOptions
    options: DirectOptions
    question_prompts = (SOLVE,)

    def stages(self) -> dict[str, Stage]:
        """Sample, filter, verify; there is nothing to critique."""
        config = self.options.model_dump(include={"samples", "sampled_tokens"}, exclude_none=True)
        return {
            "generate": Stage(row=self.generate, prompts=(SOLVE,), config=config),
            "critique": Stage(),
            "filter": filters.stage(self.recipe),
            "verify": verifiers.stage(self.recipe),
        }

    def work(self, stage: str, round_: RoundKey) -> Work | None:
        """What a row of a stage asks of the model."""
        return plan.work(self.options, stage)

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """One question in, k answers out, or as many more as the token budget pays for."""
        question, budget = self.question(row), self.options.sampled_tokens or 0
        sampled = await llm.chat(question, step=SOLVE, n=self.options.samples)
        while (used := sum(c.completion_tokens for c in sampled)) < budget:
            if not used:
                raise EngineError(
                    "the endpoint reports no token counts, which method.sampled_tokens needs; unset it"
                )
            more = max(1, (budget - used) * len(sampled) // used)  # as many as fit, by the mean so far
            sampled += await llm.chat(question, step=SOLVE, n=more, sample_index=len(sampled))
        answers = ({"sample": i, "model": llm.model, **answer_fields(c)} for i, c in enumerate(sampled))
        return Kept([row.child("generate", f"{llm.round}/{a['sample']}", **a) for a in answers])

    def question(self, row: Row) -> list[Message]:
        """The chat that asks the question: the same when sampling, training and evaluating."""
        return self.prompts.render(
            SOLVE, question=row.payload["question"], options=row.payload.get("options")
        )

    def examples(self, row: Row) -> list[Example]:
        """Question and answer."""
        return [Example(self.question(row), [{"role": "assistant", "content": row.payload["text"]}])]
