"""direct: sample k answers to each question, verify, keep at most c. The control arm that every method is compared with."""

from typing import Literal

from pydantic import Field

from pipeline.engines.base import Message
from pipeline.errors import EngineError
from pipeline.methods import Example, Method, Options, Stage
from pipeline.rows import Kept, Outcome, Row
from pipeline.runner.llm import LLM
from stages.steps import filters, verifiers
from stages.steps.samples import answer_fields

SOLVE = "direct/solve"


class DirectOptions(Options):
    """Options of `direct`."""

    name: Literal["direct"] = "direct"
    samples: int = Field(4, ge=1, description="k: answers sampled per question and round")
    sampled_tokens: int | None = Field(
        None, ge=1, description="go on sampling, k answers first, until a question has cost this many tokens"
    )
    keep_per_question: int = Field(
        2, ge=1, description="c: verified answers kept per question and round (seeded choice)"
    )


class Direct(Method):
    """Rejection sampling: generate k, drop what is malformed, keep what is right."""

    name = "direct"
    Options = DirectOptions
    question_prompts = (SOLVE,)

    def stages(self) -> dict[str, Stage]:
        """Sample; nothing to criticise; filter; verify."""
        return {
            "generate": Stage(
                row=self.generate,
                prompts=(SOLVE,),
                config=self.options.model_dump(include={"samples", "sampled_tokens"}, exclude_none=True),
            ),
            "critique": Stage(),
            "filter": filters.stage(self.recipe),
            "verify": verifiers.stage(self.recipe),
        }

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """One question in, k answers out; with a budget of tokens, as many more as it pays for."""
        sampled = await llm.chat(self.question(row), step=SOLVE, n=self.options.samples)
        while (used := sum(c.completion_tokens for c in sampled)) < (self.options.sampled_tokens or 0):
            if not used:
                raise EngineError(
                    "the endpoint counts no tokens, so method.sampled_tokens cannot be kept; set method.samples alone"
                )
            more = (
                (self.options.sampled_tokens - used) * len(sampled) // used
            )  # as many as fit in, by the mean so far
            sampled += await llm.chat(
                self.question(row), step=SOLVE, n=max(1, more), sample_index=len(sampled)
            )
        return Kept(
            [
                row.child("generate", f"{llm.round}/{i}", sample=i, model=llm.model, **answer_fields(c))
                for i, c in enumerate(sampled)
            ]
        )

    def question(self, row: Row) -> list[Message]:
        """The chat that asks the row's question; the same when sampling, training and evaluating."""
        payload = row.payload
        return self.prompts.render(SOLVE, question=payload["question"], options=payload.get("options"))

    def examples(self, row: Row) -> list[Example]:
        """Question and answer."""
        return [Example(self.question(row), [{"role": "assistant", "content": row.payload["text"]}])]
