"""The annotator of phase 1: an endpoint, or the untrained model, whose feedback is shown the ground truth."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.engines.base import Completion
from pipeline.errors import DataError
from pipeline.prompts import Prompts
from pipeline.rows import Row
from pipeline.runner.llm import LLM
from stages import answers
from stages.methods.self.options import SelfOptions
from stages.steps.asking import mark_asked_for, statement

HINTED_FEEDBACK, ANNOTATE_FEEDBACK = "self/hinted_feedback", "self/annotate_feedback"
ANNOTATE_REFINE = "self/annotate_refine"
OPENING_FEEDBACK, OPENING_REFINE = SCAFFOLD = ("self/opening_feedback", "self/opening_refine")


@dataclass(frozen=True)
class Annotator:
    """Asks for feedback on first answers and for their refinement.

    `is_right` tells whether a text answers a row's question rightly, `read` extracts its answer.
    """

    options: SelfOptions
    prompts: Prompts
    is_right: Callable[[Row, str], bool]
    read: Callable[[Row, str], answers.Extraction]

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates it renders."""
        feedback = ANNOTATE_FEEDBACK if self.options.annotator else HINTED_FEEDBACK
        return (feedback, ANNOTATE_REFINE, *(SCAFFOLD if self.options.scaffold else ()))

    async def feedback(self, row: Row, llm: LLM) -> Completion:
        """Ask for feedback on the row's first answer. Only the hinted template is given the truth."""
        sampling = self.options.sampling.feedback.applied_to(llm.sampling)
        variables = self._variables(row)
        if self.options.annotator:
            return (await llm.ask(ANNOTATE_FEEDBACK, sampling=sampling, **variables))[0]
        if row.payload.get("answer") is None:
            raise DataError(
                "the task has no ground truth to show to the annotating "
                "model; set method.annotator to an endpoint"
            )
        initial = row.payload["initial"]
        right = await asyncio.to_thread(self.is_right, row, initial)  # a scorer may compute for seconds
        opening = ""
        if self.options.scaffold:
            given = self.read(row, initial).answer or ""
            opening = self._opening(OPENING_FEEDBACK, given=given, right=right)
        variables |= {"answer": row.payload["answer"], "right": right}
        [reply] = await llm.ask(HINTED_FEEDBACK, sampling=sampling, prefill=opening, **variables)
        return replace(reply, text=opening + reply.text)

    async def refinement(self, row: Row, llm: LLM, feedback: Completion) -> Completion:
        """Ask for the row's first answer with what the feedback says."""
        sampling = self.options.sampling.refine.applied_to(llm.sampling)
        variables = self._variables(row) | {"feedback": feedback.text.strip()}
        variables["options"] = row.payload.get("options")
        opening = (
            self._opening(OPENING_REFINE, bare=self.options.bare_answers) if self.options.scaffold else ""
        )
        [reply] = await llm.ask(ANNOTATE_REFINE, sampling=sampling, prefill=opening, **variables)
        return replace(reply, text=opening + reply.text)

    def _variables(self, row: Row) -> dict[str, Any]:
        positive, negative = self.options.verdict_words
        return {
            "task": statement(self.prompts, row.payload),
            "initial": row.payload["initial"],
            "mark": mark_asked_for(self.prompts),
            "positive": positive,
            "negative": negative,
        }

    def _opening(self, template: str, **variables: Any) -> str:
        return self.prompts.render(template, **variables)[0]["content"]
