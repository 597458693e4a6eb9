"""direct: sample k answers to each question, verify, keep at most c. The control arm every method is compared
with.
"""

from typing import Any, Literal

from pydantic import Field

from pipeline.engines.base import Message
from pipeline.errors import EngineError
from pipeline.methods import Example, Method, Options, Stage
from pipeline.protocols import Work
from pipeline.rows import Kept, Outcome, Row
from pipeline.rundir import RoundKey
from pipeline.runner.llm import LLM
from pipeline.stage import DatasetStep
from stages.methods.direct import plan
from stages.steps import filters, solved, verifiers
from stages.steps.asking import SOLVE, ask
from stages.steps.samples import answer_fields


class DirectOptions(Options):
    """Options of `direct`."""

    late = ("skip_solved",)
    name: Literal["direct"] = "direct"
    samples: int = Field(4, ge=1)
    """k: answers sampled per question and round."""
    sampled_tokens: int | None = Field(None, ge=1)
    """Keep sampling, `samples` answers first, until a question has cost this many tokens."""
    keep_per_question: int = Field(2, ge=1)
    """c: verified answers kept per question and round (seeded choice)."""
    skip_solved: bool = False
    """Publish nothing of questions whose sampled answers are all right."""


class Direct(Method):
    """Rejection sampling: generate k answers, drop the malformed, keep the right ones."""

    name = "direct"
    Options = DirectOptions
    options: DirectOptions
    question_prompts = (SOLVE,)

    def stages(self) -> dict[str, Stage]:
        """Sample, filter, verify; there is nothing to critique."""
        config = self.options.model_dump(include={"samples", "sampled_tokens"}, exclude_none=True)
        stages = {
            "generate": Stage(row=self.generate, prompts=(SOLVE,), config=config),
            "critique": Stage(),
            "filter": filters.stage(self.recipe),
            "verify": verifiers.stage(self.recipe),
        }
        return solved.skipping(stages) if self.options.skip_solved else stages

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
        rows = [row.child("generate", f"{llm.round}/{a['sample']}", **a) for a in answers]
        return Kept(solved.counted(rows, len(rows)) if self.options.skip_solved else rows)

    def question(self, row: Row) -> list[Message]:
        """The chat that asks the question: the same when sampling, training and evaluating."""
        return ask(self.prompts, row.payload)

    def publish_steps(self, round_: int, tokenizer: Any) -> dict[str, DatasetStep]:
        """Leave out solved questions, with skip_solved."""
        return {"skip_solved": solved.left_out} if self.options.skip_solved and round_ else {}

    def examples(self, row: Row) -> list[Example]:
        """Question and answer."""
        return [Example(self.question(row), [{"role": "assistant", "content": row.payload["text"]}])]
