"""A method of your own: answer, let the model revise its answer, train on the revision."""

from pydantic import Field

from pipeline.engines.base import Message
from pipeline.methods import Example, Method, Options, Stage
from pipeline.rows import Kept, Outcome, Row
from pipeline.runner.llm import LLM
from stages.steps import filters, verifiers
from stages.steps.samples import answer_fields


class ReviseOptions(Options):
    samples: int = Field(4, ge=1)
    """Answers per question, each revised once."""


class Revise(Method):
    name = "revise"
    Options = ReviseOptions

    def stages(self) -> dict[str, Stage]:
        samples = {"samples": self.options.samples}
        return {
            "generate": Stage(row=self.draft, prompts=("revise/solve",), config=samples),
            "critique": Stage(row=self.revise, prompts=("revise/again",)),
            "filter": filters.stage(self.recipe),
            "verify": verifiers.stage(self.recipe),
        }

    async def draft(self, row: Row, llm: LLM) -> Outcome:
        question, n = row.payload["question"], self.options.samples
        drafts = [reply.text for reply in await llm.ask("revise/solve", n=n, question=question)]
        return Kept([row.child("generate", f"{llm.round}/{i}", draft=text) for i, text in enumerate(drafts)])

    async def revise(self, row: Row, llm: LLM) -> Outcome:
        question, draft = row.payload["question"], row.payload["draft"]
        [reply] = await llm.ask("revise/again", question=question, draft=draft)
        return Kept([row.child("critique", 0, model=llm.model, **answer_fields(reply))])

    def question(self, row: Row) -> list[Message]:
        return self.prompts.render("revise/solve", question=row.payload["question"])

    def examples(self, row: Row) -> list[Example]:
        return [Example(self.question(row), [{"role": "assistant", "content": row.payload["text"]}])]
