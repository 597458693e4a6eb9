"""SELF: a model learns to criticise and refine its own answers, then evolves on those that it approves (Lu et al. 2023, arXiv 2310.00533).

    phase 1   question --generate--> answer --annotator--> feedback, verdict --annotator--> refined answer
    phase 2   question --generate--> answer --itself-----> feedback, verdict --itself-----> refined answer --itself--> verdict of that

Phase 1 (the first meta_rounds rounds) makes the meta-skill corpus: a row gives three examples, of feedback, of refinement and of the
direct answer, with the loss on the last turn alone; what comes before it is context, also the wrong first answer. The annotator is an
endpoint. Without one it is the untrained model, shown examples of how it is done and, for the feedback, the correct answer; `scaffold` also
begins its texts for it. That is a deviation from the paper, which the card names. What it writes is checked against the ground truth.

Phase 2 is every later round: the verdict of the refined answer, not that of the first one, decides, and no ground truth is looked at.
What the truth says of it is counted when all rows are decided (stages/methods/self/critic.py). Questions may be the model's own (stages/rounds/proposing.py).

The stages: generate answers; critique asks for all the rest, and stops the run when the critic says yes to nearly everything; filter is
the shared one, on the refined answer; verify decides. Accumulating all rounds from the base model is the paper's restart.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pipeline import prompts
from pipeline.engines.base import Completion, EngineSection, Message, Sampling
from pipeline.errors import DataError
from pipeline.ids import row_id
from pipeline.methods import UNTRAINED, Example, Method, Pair, Proposals, Stage
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM
from stages import answers
from stages.methods.self import critic
from stages.methods.self.options import WITH_TRUTH, SelfOptions
from stages.steps import filters, verifiers
from stages.steps.new_questions import questions_in
from stages.steps.samples import StepSampling, answer_fields

VERSION = 2
SOLVE = "direct/solve"  # asked in training and evaluation as `direct` asks it, so that both can be compared
FEEDBACK, REFINE = "self/feedback", "self/refine"  # turns of the conversation that begins with the question
HINTED_FEEDBACK, ANNOTATE_FEEDBACK, ANNOTATE_REFINE = (
    "self/hinted_feedback",
    "self/annotate_feedback",
    "self/annotate_refine",
)
OPENING_FEEDBACK, OPENING_REFINE = SCAFFOLD = ("self/opening_feedback", "self/opening_refine")
NEW_QUESTIONS = "self/propose"
META, EVOLVE = "meta_skill", "evolution"  # payload["phase"]


class SelfEvolution(Method):
    """One row per answer, with feedback, refinement and verdicts."""

    name = "self"
    Options = SelfOptions

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        self._words = {"positive": self.options.verdict_words[0], "negative": self.options.verdict_words[1]}
        # A model that has learnt to answer goes on with a list once it has begun; endpoints as a rule let nobody begin for them.
        self._opening = "" if recipe.engine.implementation.is_endpoint else "1."
        self.options.refuse_contradictions(recipe)

    def stages(self) -> dict[str, Stage]:
        """Answer; criticise, refine, judge; filter; decide. And propose, before all that, where the method makes questions."""
        o = self.options
        annotate = (
            ANNOTATE_FEEDBACK if o.annotator else HINTED_FEEDBACK,
            ANNOTATE_REFINE,
            *(SCAFFOLD if o.scaffold else ()),
        )
        shared = {
            "meta_rounds": o.meta_rounds,
            "verdict_words": list(o.verdict_words),
            "annotator": o.annotator_identity(),
        }
        sampling = o.sampling.model_dump(mode="json")
        steps = {step: sampling[step] for step in ("feedback", "refine")}
        shared_filter = filters.stage(self.recipe)
        return {
            "propose": Stage(
                row=self.propose,
                prompts=(NEW_QUESTIONS,),
                version=VERSION,
                config={
                    "wanted": o.new_questions.wanted,
                    "propose": sampling["propose"],
                    "opening": self._opening,
                },
            ),
            "generate": Stage(
                row=self.generate,
                prompts=(SOLVE,),
                config={"meta_rounds": o.meta_rounds, "samples": o.samples, "answer": sampling["answer"]},
                version=VERSION,
            ),
            "critique": Stage(
                row=self.critique,
                prompts=(SOLVE, FEEDBACK, REFINE, *annotate),
                version=VERSION,
                facts=partial(critic.base_rate, o.max_positive),
                config={**shared, **steps, "max_positive": o.max_positive, "scaffold": o.scaffold},
            ),
            "filter": replace(
                shared_filter,
                row=self.filter,
                version=VERSION,
                config=shared_filter.config | ({"keep_feedback": True} if o.keep_feedback else {}),
            ),
            "verify": Stage(
                row=self.verify,
                config={**shared, "verifier": self.recipe.verifier},
                version=VERSION,
                facts=partial(critic.quality, self._known),
            ),
        }

    def engine(self, stage: str, round_: int) -> EngineSection | str | None:
        """The annotator criticises in phase 1; everything else the round's model does itself."""
        return (
            (self.options.annotator or UNTRAINED)
            if stage == "critique" and round_ <= self.options.meta_rounds
            else None
        )

    def proposals(self, round_: int) -> Proposals | None:
        """Questions are made from the second round of phase 2 on."""
        new, first = (
            self.options.new_questions,
            self.options.new_questions.from_round or self.options.meta_rounds + 2,
        )
        return Proposals(new.calls, new.shown, new.max_rouge) if new.calls and round_ >= first else None

    async def propose(self, row: Row, llm: LLM) -> Outcome:
        """Known questions in, new ones out. A question that was cut off is none."""
        asked = {"shown": row.payload["shown"], "wanted": self.options.new_questions.wanted}
        reply = (
            await llm.ask(
                NEW_QUESTIONS,
                sampling=self.options.sampling.propose.over(llm.sampling),
                prefill=self._opening,
                **asked,
            )
        )[0]
        text = reply.text if reply.finish_reason not in filters.CUT_SHORT else reply.text.rpartition("\n")[0]
        made = [(row_id([row.id], "propose", i), question) for i, question in enumerate(questions_in(text))]
        if not made:
            return Dropped("no_question", "the reply holds none", reply.text)
        common = {"answer": None, "answer_type": self.recipe.tasks.answer_type, "proposed_by": llm.model}
        return Kept(
            [Row(i, {"task_id": i, "question": question, **common}, row.parents) for i, question in made]
        )

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """One question in, its answers out. They have no `text` yet: what is trained on is the refined answer."""
        sampling = self.options.sampling.answer.over(llm.sampling)
        answered = await llm.chat(self.question(row), step=SOLVE, n=self.options.samples, sampling=sampling)
        common = {
            "phase": META if int(llm.round) <= self.options.meta_rounds else EVOLVE,
            "model": llm.model,
            "initial_sampling": sampling.as_json,
        }
        made = (
            {
                "initial": c.text.strip(),
                "initial_tokens": c.completion_tokens,
                "initial_finish_reason": c.finish_reason,
            }
            for c in answered
        )
        return Kept(
            [
                row.child("generate", f"{llm.round}/{i}", sample=i, **answer, **common)
                for i, answer in enumerate(made)
            ]
        )

    async def critique(self, row: Row, llm: LLM) -> Outcome:
        """Have the answer criticised, refined, and in phase 2 the refined one judged. Drops empty_answer, unparsable_feedback."""
        initial, meta = row.payload["initial"], row.payload["phase"] == META
        if not initial:
            return Dropped("empty_answer", "the first answer is blank: there is nothing to criticise")
        feedback = await (self._annotated_feedback(row, llm) if meta else self._feedback(row, llm, initial))
        verdict = critic.read_verdict(feedback, self.options.verdict_words)
        if verdict is None:
            return Dropped("unparsable_feedback", self._expected(), feedback.text)
        refined = await (
            self._annotated_refinement(row, llm, feedback)
            if meta
            else self._refinement(row, llm, initial, feedback)
        )
        asked = self.options.sampling.feedback.over(llm.sampling).as_json
        made = {
            "feedback": feedback.text.strip(),
            "feedback_sampling": asked,
            "initial_verdict": verdict,
            **answer_fields(refined),
        }
        if meta:
            made |= {
                "annotator": llm.model if self.options.annotator else WITH_TRUTH,
                "hinted": not self.options.annotator,
            }
        else:
            check = await self._feedback(row, llm, refined.text.strip()) if refined.text.strip() else None
            made["check"] = check.text.strip() if check else ""
            made["approved"] = critic.read_verdict(check, self.options.verdict_words) if check else None
        sampling = self.options.sampling.refine.over(llm.sampling).as_json
        return Kept(
            [
                row.child(
                    "critique",
                    0,
                    **made,
                    initial_model=row.payload["model"],
                    model=llm.model,
                    sampling=sampling,
                )
            ]
        )

    async def filter(self, row: Row, llm: LLM) -> Outcome:
        """The shared filters on the refined answer; a feedback that is learnt too must not repeat itself either (feedback_repetition)."""
        if fault := filters.problem(row, self.recipe.filters):
            return Dropped(*fault, row.payload["text"])
        if self._teaches_feedback(row) and (
            loop := filters.repetition(row.payload["feedback"], self.recipe.filters)
        ):
            return Dropped("feedback_repetition", loop, row.payload["feedback"])
        return Kept([row.child("filter", 0)])

    async def verify(self, row: Row, llm: LLM) -> Outcome:
        """Accept a refined answer. Phase 1: the annotator's, checked when that was shown the truth. Phase 2: what the model approves.

        Drops, beside what is wrong with the answer's mark: wrong_verdict, wrong_answer; unparsable_verdict, not_approved.
        """
        said, phase = row.payload, row.payload["phase"]
        if said["phase"] == META and said["annotator"] == WITH_TRUTH:
            if (right := self._score(row, said["initial"])) != said["initial_verdict"]:
                return Dropped(
                    "wrong_verdict",
                    f"the first answer is {'right' if right else 'wrong'}, expected {said.get('answer')!r}",
                    said["feedback"],
                )
            if not self._score(row, said["text"]):
                return Dropped("wrong_answer", f"expected {said.get('answer')!r}", said["text"])
        if phase == EVOLVE and not said["approved"]:
            reason = "unparsable_verdict" if said["approved"] is None else "not_approved"
            return Dropped(
                reason, self._expected() if said["approved"] is None else said["check"], said["check"]
            )
        found = self._extract(row, said["text"])
        if (
            found.answer is None and ":" not in self.recipe.verifier
        ):  # a verifier of the user's own says itself what it reads
            return Dropped(found.problem, raw=said["text"])
        verdict = verifiers.Verdict(True, found.answer, "", None)._asdict() | {
            "by": "annotator" if phase == META else "the model itself"
        }
        return Kept([row.child("verify", 0, verdict=verdict)])

    def _expected(self) -> str:
        return 'expected a last line "Verdict: {}" or "Verdict: {}"'.format(*self.options.verdict_words)

    def _extract(self, row: Row, text: str) -> answers.Extraction:
        kind = "text" if self.recipe.verifier == "task_scorer" else row.payload["answer_type"]
        return answers.extract(text, kind, row.payload.get("options"))

    def _score(self, row: Row, text: str) -> bool:
        return verifiers.scorer(self.recipe.verifier)({**row.payload, "text": text}).correct

    def _known(self, row: Row, text: str) -> bool | None:
        if "proposed_by" in row.payload:
            return None
        try:
            return self._score(row, text)
        except Exception:  # no ground truth, or a verifier of the user's own that cannot take this text: measured, nothing hangs on it
            return None

    def _criticising(self, row: Row, answer: str) -> list[Message]:
        return [*self.question(row), _assistant(answer), *prompts.render(FEEDBACK, **self._words)]

    def _refining(self, row: Row, answer: str, feedback: str) -> list[Message]:
        return [*self._criticising(row, answer), _assistant(feedback), *prompts.render(REFINE)]

    async def _feedback(self, row: Row, llm: LLM, answer: str) -> Completion:
        sampling = self.options.sampling.feedback.over(llm.sampling)
        return (await llm.chat(self._criticising(row, answer), step=FEEDBACK, sampling=sampling))[0]

    async def _refinement(
        self, row: Row, llm: LLM, answer: str, feedback: Completion, sampling: Sampling | None = None
    ) -> Completion:
        sampling = sampling or self.options.sampling.refine.over(llm.sampling)
        return (
            await llm.chat(self._refining(row, answer, feedback.text.strip()), step=REFINE, sampling=sampling)
        )[0]

    async def _annotated_feedback(self, row: Row, llm: LLM) -> Completion:
        """Ask the annotator. The answer is among the variables of the hinted template, and of the opening that goes with it, only."""
        sampling = self.options.sampling.feedback.over(llm.sampling)
        said = {"task": self._task(row), "initial": row.payload["initial"], **self._words}
        if self.options.annotator:
            return (await llm.ask(ANNOTATE_FEEDBACK, sampling=sampling, **said))[0]
        if row.payload.get("answer") is None:
            raise DataError(
                "the task has no ground truth to show to the model that annotates; name an endpoint under method.annotator"
            )
        opening = (
            await asyncio.to_thread(self._opening_of_feedback, row) if self.options.scaffold else ""
        )  # a scorer may compute for seconds
        reply = (
            await llm.ask(
                HINTED_FEEDBACK, sampling=sampling, prefill=opening, answer=row.payload["answer"], **said
            )
        )[0]
        return replace(reply, text=opening + reply.text)

    def _opening_of_feedback(self, row: Row) -> str:
        initial = row.payload["initial"]
        known = {
            "answer": row.payload["answer"],
            "given": self._extract(row, initial).answer or "nothing",
            "right": self._score(row, initial),
        }
        return prompts.render(OPENING_FEEDBACK, **known, **self._words)[0]["content"]

    async def _annotated_refinement(self, row: Row, llm: LLM, feedback: Completion) -> Completion:
        said = {
            "task": self._task(row),
            "options": row.payload.get("options"),
            "initial": row.payload["initial"],
            "feedback": feedback.text.strip(),
        }
        opening = prompts.render(OPENING_REFINE)[0]["content"] if self.options.scaffold else ""
        sampling = self.options.sampling.refine.over(llm.sampling)
        reply = (await llm.ask(ANNOTATE_REFINE, sampling=sampling, prefill=opening, **said, **self._words))[0]
        return replace(reply, text=opening + reply.text)

    def question(self, row: Row) -> list[Message]:
        """The chat that asks the row's question plainly; feedback and refinement go on from it."""
        return prompts.render(SOLVE, question=row.payload["question"], options=row.payload.get("options"))

    def question_prompts(self) -> tuple[str, ...]:
        """The question's template, and those of its refinement."""
        return self.example_prompts() if self.options.refine_in_evaluation else (SOLVE,)

    def example_prompts(self) -> tuple[str, ...]:
        """The templates of the three skills, whether or not evaluation asks for a refinement."""
        return (SOLVE, FEEDBACK, REFINE)

    def _task(self, row: Row) -> str:
        return self.question(row)[-1]["content"]

    def examples(self, row: Row) -> list[Example]:
        """The direct answer; of a meta-skill row also its feedback and its refinement, each with what came before as the prompt."""
        said = row.payload
        direct = Example(self.question(row), [_assistant(said["text"])])
        if not self._teaches_feedback(row):
            return [direct]
        feedback = Example(
            self._criticising(row, said["initial"]),
            [_assistant(said["feedback"])],
            sampling=said["feedback_sampling"],
        )
        return [
            direct,
            feedback,
            Example(self._refining(row, said["initial"], said["feedback"]), [_assistant(said["text"])]),
        ]

    def said(self, row: Row) -> str:
        """Return the refined answer; a row that teaches feedback and refinement is another one when the first answer is another."""
        return "\n".join(
            row.payload[text] for text in (("text", "initial") if self._teaches_feedback(row) else ("text",))
        )

    def learnt(self, row: Row) -> list[str]:
        """The refined answer; of a row that teaches feedback and refinement also these, and the first answer, which is in their prompts."""
        return [
            row.payload[text]
            for text in (("text", "initial", "feedback") if self._teaches_feedback(row) else ("text",))
        ]

    def identity(self, row: Row) -> str:
        """Return both answers: they are what is paired."""
        return f"{row.payload['text']}\n{row.payload['initial']}"

    def _teaches_feedback(self, row: Row) -> bool:
        return row.payload.get("phase") in ((META, EVOLVE) if self.options.keep_feedback else (META,))

    def pairs(self, right: Sequence[Row], wrong: Sequence[Row]) -> Iterable[Pair]:
        """Pair a refined answer with the first one of its own row, where the critic said no to that; no ground truth is looked at.

        A first answer that the filters would refuse (cut off, or repeating itself) is no example of a wrong one.
        """
        for row in right:
            said = row.payload
            if not said["initial_verdict"] and not filters.refused(
                said["initial"], said["initial_tokens"], said["initial_finish_reason"], self.recipe.filters
            ):
                first = Row(
                    row.id,
                    {
                        **said,
                        "model": said["initial_model"],
                        "verdict": {"correct": False, "by": said["verdict"]["by"]},
                    },
                    row.parents,
                )
                sampled = {"chosen": said["sampling"], "rejected": said["initial_sampling"]}
                yield Pair(
                    self.question(row),
                    [_assistant(said["text"])],
                    [_assistant(said["initial"])],
                    row,
                    first,
                    sampled,
                )

    def refinement(self) -> Any:
        """What answering in three steps depends on, or None when it is not evaluated."""
        o = self.options
        return (
            {"feedback": o.sampling.feedback.model_dump(mode="json"), "verdict_words": list(o.verdict_words)}
            if o.refine_in_evaluation
            else None
        )

    async def improve(self, row: Row, answer: Completion, llm: LLM, sampling: Sampling) -> Completion:
        """Refine an answer that the model itself finds wrong. One it finds right, or says nothing readable of, stays as it is."""
        text = answer.text.strip()
        if not text:
            return answer
        limit = self.options.sampling.feedback.over(llm.sampling).max_tokens
        feedback = (
            await llm.chat(
                self._criticising(row, text),
                step=FEEDBACK,
                sampling=StepSampling(max_tokens=limit).over(sampling),
            )
        )[0]
        if critic.read_verdict(feedback, self.options.verdict_words) is not False:
            return answer
        return await self._refinement(row, llm, text, feedback, sampling)

    def verified_by(self, round_: int) -> str:
        """Phase 1: the annotator, checked where it is the model itself. Phase 2: the model itself."""
        if round_ > self.options.meta_rounds:
            return "none but the model itself, which approved the refined answers"
        return (
            "the annotator"
            if self.options.annotator
            else f"{self.recipe.verifier}, of the first answer's verdict and of the refined answer"
        )

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Say who wrote the meta-skill corpus, and who decided what is in it."""
        return [
            self.options.card_note(annotator)
            for annotator in sorted({row.payload.get("annotator", "") for row in rows})
        ]

    def pair_notes(self, round_: int) -> list[str]:
        """Say whose judgement the pairs rest on."""
        return [
            self.options.card_note("" if round_ > self.options.meta_rounds else self.options.annotator_name())
        ]


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
