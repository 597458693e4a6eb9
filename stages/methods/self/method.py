"""SELF: a model learns to critique and refine its own answers, then evolves on those it approves (arXiv
2310.00533).

    phase 1   question --> answer --annotator--> feedback, verdict --annotator--> refined answer
    phase 2   question --> answer --itself-----> feedback, verdict --itself-----> refined answer --> verdict

Phase 1 (the first meta_rounds rounds) builds the meta-skill corpus: a row yields three examples, of feedback,
of refinement and of the direct answer, with the loss on the last turn only; earlier turns, the wrong first
answer included, are context. The annotator is an endpoint or another model. Without one it is the untrained
model, shown worked examples and, for the feedback, the correct answer; `scaffold` also begins its texts for
it. That deviates from the paper, and the dataset card says so. Its output is checked against the ground
truth, and must not quote it (texts.py). Verdicts that train the critic are balanced (balance.py).

Phase 2 is every later round: the verdict on the refined answer decides, not that on the first one, and no
ground truth is used. What the truth would have said is counted once all rows are decided (critic.py). The
model may also write new questions.

generate writes answers; critique asks for everything else and stops the run when the critic approves nearly
everything, wrong answers included; filter is the shared one, on the refined answer; verify decides.
Accumulating all rounds from the base model is the paper's restart. Source: Lu et al. 2023.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pipeline.engines.base import Completion, EngineSection, Message, Sampling
from pipeline.ids import row_id
from pipeline.methods import Example, Method, Stage
from pipeline.protocols import Pair, Proposals, Work
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.rundir import RoundKey
from pipeline.runner.llm import LLM
from pipeline.stage import DatasetStep, Seat
from stages import answers
from stages.methods.self import balance, critic, plan, texts, verdicts
from stages.methods.self.annotator import Annotator
from stages.methods.self.options import WITH_TRUTH, SelfOptions
from stages.steps import filters, solved, verifiers
from stages.steps.asking import SOLVE, TASK, ask
from stages.steps.dedup import question_of
from stages.steps.mentions import mention, without_lead_in
from stages.steps.new_questions import questions_in
from stages.steps.samples import StepSampling, answer_fields

VERSION = 3
FEEDBACK, REFINE = "self/feedback", "self/refine"  # turns of the conversation that starts with the question
NEW_QUESTIONS = "self/propose"
META, EVOLVE = "meta_skill", "evolution"  # payload["phase"]


class SelfEvolution(Method):
    """One row per answer, with feedback, refinement and verdicts."""

    name = "self"
    Options = SelfOptions
    options: SelfOptions
    engine_options = ("annotator",)
    example_prompts = (SOLVE, FEEDBACK, REFINE)

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        self.question_prompts = self.example_prompts if self.options.refine_in_evaluation else (SOLVE,)
        self._words = {"positive": self.options.verdict_words[0], "negative": self.options.verdict_words[1]}
        # A model that has been trained to answer continues a list once it has begun. Endpoints rarely support
        # prefill.
        self._opening = "" if recipe.engine.implementation.is_endpoint else "1."
        self._annotator = Annotator(self.options, self.prompts, self._score, self._extract)
        self.options.refuse_contradictions(recipe)

    def stages(self) -> dict[str, Stage]:
        """Answer; critique, refine and judge; filter; decide. Before all that, propose questions."""
        o, sampling = self.options, self.options.sampling.model_dump(mode="json")
        propose = {"wanted": o.new_questions.wanted, "propose": sampling["propose"], "opening": self._opening}
        generate = {"meta_rounds": o.meta_rounds, "samples": o.samples, "answer": sampling["answer"]}
        words, annotator = list(o.verdict_words), o.annotator_identity()
        shared = {"meta_rounds": o.meta_rounds, "verdict_words": words, "annotator": annotator}
        critique = {**shared, "max_positive": o.max_positive, "scaffold": o.scaffold, "bare": o.bare_answers}
        critique |= {step: sampling[step] for step in ("feedback", "refine")}
        checked = filters.stage(self.recipe)
        kept = {"keep_feedback": o.keep_feedback, "bare_answers": o.bare_answers}
        stages = {
            "propose": Stage(row=self.propose, prompts=(NEW_QUESTIONS,), config=propose, version=VERSION),
            "generate": Stage(row=self.generate, prompts=(SOLVE,), config=generate, version=VERSION),
            "critique": Stage(
                row=self.critique,
                prompts=(SOLVE, TASK, FEEDBACK, REFINE, *self._annotator.templates),
                config=critique,
                version=VERSION,
                summary=partial(critic.base_rate, o.max_positive, self._is_right),
            ),
            "filter": replace(checked, row=self.filter, config=checked.config | kept, version=VERSION),
            "verify": Stage(
                row=self.verify,
                config={**shared, "verifier": self.recipe.verifier},
                version=VERSION,
                summary=partial(critic.quality, self._is_right),
            ),
        }
        return solved.skipping(stages, _approved_at_first) if o.skip_solved else stages

    def work(self, stage: str, round_: RoundKey) -> Work | None:
        """What a row of a stage asks of the model."""
        return plan.work(self.options, self.recipe.sampling.max_tokens, stage, round_)

    def engine(self, stage: str, round_: int) -> EngineSection | Seat | str | None:
        """The annotator critiques in phase 1; the round's model does everything else itself."""
        annotated = stage == "critique" and round_ <= self.options.meta_rounds
        return self.options.annotator_seat() if annotated else None

    def proposals(self, round_: int) -> Proposals | None:
        """Questions are written from the second round of phase 2 on."""
        new = self.options.new_questions
        first = new.from_round or self.options.meta_rounds + 2
        return Proposals(new.calls, new.shown, new.max_rouge) if new.calls and round_ >= first else None

    async def propose(self, row: Row, llm: LLM) -> Outcome:
        """Known questions in, new ones out. A question that was cut off is left out."""
        sampling = self.options.sampling.propose.applied_to(llm.sampling)
        variables = {"shown": row.payload["shown"], "wanted": self.options.new_questions.wanted}
        [reply] = await llm.ask(NEW_QUESTIONS, sampling=sampling, prefill=self._opening, **variables)
        text = reply.text.rpartition("\n")[0] if reply.finish_reason in filters.CUT_SHORT else reply.text
        made = [(row_id([row.id], "propose", i), question) for i, question in enumerate(questions_in(text))]
        if not made:
            return Dropped("no_question", "the reply contains none", reply.text)
        common = {"answer": None, "answer_type": self.recipe.tasks.answer_type, "proposed_by": llm.model}
        if marks := self.recipe.answer_marks:
            common["answer_marks"] = marks
        return Kept([Row(i, {"task_id": i, "question": q, **common}, row.parents) for i, q in made])

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """One question in, its answers out, as `initial`: the `text` that is trained on is the refined
        answer.
        """
        sampling = self.options.sampling.answer.applied_to(llm.sampling)
        answered = await llm.chat(self.question(row), step=SOLVE, n=self.options.samples, sampling=sampling)
        phase = META if int(llm.round) <= self.options.meta_rounds else EVOLVE
        common = {"phase": phase, "model": llm.model, "initial_sampling": sampling.as_json}
        rows = [
            row.child(
                "generate",
                f"{llm.round}/{i}",
                sample=i,
                initial=c.text.strip(),
                initial_tokens=c.completion_tokens,
                initial_finish_reason=c.finish_reason,
                **common,
            )
            for i, c in enumerate(answered)
        ]
        # Phase 1 needs answers that are right: the critic has to learn to approve as well.
        skipping = self.options.skip_solved and phase == EVOLVE
        return Kept(solved.counted(rows, len(rows)) if skipping else rows)

    async def critique(self, row: Row, llm: LLM) -> Outcome:
        """Have the answer critiqued and refined, and in phase 2 the refined one judged.

        Drop reasons: empty_answer, unparsable_feedback, truth_quoted.
        """
        initial, meta = row.payload["initial"], row.payload["phase"] == META
        if not initial:
            return Dropped("empty_answer", "the first answer is blank: there is nothing to critique")
        annotator = self._annotator
        feedback = await (annotator.feedback(row, llm) if meta else self._feedback(row, llm, initial))
        words = self.options.verdict_words
        if (verdict := verdicts.read_verdict(feedback, words)) is None:
            return Dropped("unparsable_feedback", self._expected(), feedback.text)
        feedback = verdicts.with_last_line(feedback, verdict, words)
        shown = meta and not self.options.annotator
        if quoted := texts.quotes_truth(feedback.text, verdict, row.payload) if shown else "":
            return Dropped("truth_quoted", f"a critic must find it: {quoted!r}", feedback.text)
        refine = annotator.refinement(row, llm, feedback) if meta else None
        refined = await (refine or self._refinement(row, llm, initial, feedback))
        asked, refining = (
            getattr(self.options.sampling, step).applied_to(llm.sampling) for step in ("feedback", "refine")
        )
        made = {"feedback": feedback.text, "feedback_sampling": asked.as_json, "initial_verdict": verdict}
        made |= answer_fields(refined)
        made["text"] = text = without_lead_in("feedback", made["text"], question_of(row))
        if meta:
            by = llm.model if self.options.annotator else WITH_TRUTH
            made |= {"annotator": by, "hinted": not self.options.annotator}
        else:
            check = await self._feedback(row, llm, text) if text else None
            made["check"] = check.text.strip() if check else ""
            made["approved"] = verdicts.read_verdict(check, words) if check else None
        made |= {"initial_model": row.payload["model"], "model": llm.model, "sampling": refining.as_json}
        return Kept([row.child("critique", 0, **made)])

    async def filter(self, row: Row, llm: LLM) -> Outcome:
        """Apply the shared filters to the refined answer, which has to stand alone and, in phase 1, to show
        its working; feedback to train on must not loop either.

        Drop reasons beside the shared ones: mentions_feedback, bare_answer, feedback_repetition.
        """
        text, meta = row.payload["text"], row.payload["phase"] == META
        if problem := filters.problem(row, self.recipe.filters):
            return Dropped(*problem, text)
        if phrase := mention("feedback", text, question_of(row)):
            return Dropped("mentions_feedback", f"the answer does not stand alone: {phrase!r}", text)
        if meta and not self.options.bare_answers and texts.is_bare(text):
            return Dropped("bare_answer", "no working; method.bare_answers keeps such answers", text)
        feedback = row.payload["feedback"] if self._teaches_feedback(row) else ""
        if loop := filters.repetition(feedback, self.recipe.filters):
            return Dropped("feedback_repetition", loop, feedback)
        return Kept([row.child("filter", 0)])

    async def verify(self, row: Row, llm: LLM) -> Outcome:
        """Accept a refined answer: in phase 1 the annotator's, checked if it saw the truth; in phase 2 what
        the model approves.

        Drop reasons, beside those of an unreadable answer: wrong_verdict, wrong_answer; unparsable_verdict,
        not_approved.
        """
        p, meta = row.payload, row.payload["phase"] == META
        if meta and p["annotator"] == WITH_TRUTH:
            if (right := self._score(row, p["initial"])) != p["initial_verdict"]:
                why = f"the first answer is {'right' if right else 'wrong'}, expected {p.get('answer')!r}"
                return Dropped("wrong_verdict", why, p["feedback"])
            if not self._score(row, p["text"]):
                return Dropped("wrong_answer", f"expected {p.get('answer')!r}", p["text"])
        if not meta and p["approved"] is None:
            return Dropped("unparsable_verdict", self._expected(), p["check"])
        if not meta and not p["approved"]:
            return Dropped("not_approved", p["check"], p["check"])
        read = self._extract(row, p["text"])
        if read.answer is None and not self._is_open(row):
            return Dropped(read.problem, raw=p["text"])
        verdict = verifiers.Verdict(True, read.answer, "", None).to_payload()
        verdict["by"] = "annotator" if meta else "the model itself"
        return Kept([row.child("verify", 0, verdict=verdict)])

    def _is_open(self, row: Row) -> bool:
        """Tell whether no final answer has to be marked: there is none, or a user's verifier reads texts its
        own way. A question that the model wrote is like the tasks it was made after.
        """
        made_up = "proposed_by" in row.payload
        known = self.recipe.tasks.columns.answer if made_up else row.payload.get("answer")
        return known is None or ":" in self.recipe.verifier

    def _expected(self) -> str:
        return 'expected a last line "Verdict: {}" or "Verdict: {}"'.format(*self.options.verdict_words)

    def _extract(self, row: Row, text: str) -> answers.Extraction:
        kind = "text" if self.recipe.verifier == "task_scorer" else row.payload["answer_type"]
        return verifiers.read_answer({**row.payload, "text": text}, kind)

    def _score(self, row: Row, text: str) -> bool:
        return verifiers.scorer(self.recipe.verifier)({**row.payload, "text": text}).correct

    def _is_right(self, row: Row, text: str) -> bool | None:
        """Tell whether a text is right, None where that is unknown.

        Only reported: no decision depends on it.
        """
        if "proposed_by" in row.payload:
            return None
        try:
            return self._score(row, text)
        except Exception:  # no ground truth, or a user's verifier that cannot take this text
            return None

    def _critique_turns(self, row: Row, answer: str) -> list[Message]:
        return [*self.question(row), _assistant(answer), *self.prompts.render(FEEDBACK, **self._words)]

    def _refine_turns(self, row: Row, answer: str, feedback: str) -> list[Message]:
        return [*self._critique_turns(row, answer), _assistant(feedback), *self.prompts.render(REFINE)]

    async def _feedback(self, row: Row, llm: LLM, answer: str) -> Completion:
        sampling = self.options.sampling.feedback.applied_to(llm.sampling)
        return (await llm.chat(self._critique_turns(row, answer), step=FEEDBACK, sampling=sampling))[0]

    async def _refinement(
        self, row: Row, llm: LLM, answer: str, feedback: Completion, sampling: Sampling | None = None
    ) -> Completion:
        sampling = sampling or self.options.sampling.refine.applied_to(llm.sampling)
        turns = self._refine_turns(row, answer, feedback.text.strip())
        return (await llm.chat(turns, step=REFINE, sampling=sampling))[0]

    def question(self, row: Row) -> list[Message]:
        """The chat that asks the question plainly; feedback and refinement continue it."""
        return ask(self.prompts, row.payload)

    def examples(self, row: Row) -> list[Example]:
        """The direct answer; of a meta-skill row also feedback and refinement, each with the turns before it
        as prompt.
        """
        p = row.payload
        answer = [_assistant(p["text"])]
        examples = [Example(self.question(row), answer)]
        if self._teaches_feedback(row):
            turns, feedback = self._critique_turns(row, p["initial"]), [_assistant(p["feedback"])]
            examples.append(Example(turns, feedback, sampling=p["feedback_sampling"]))
            examples.append(Example(self._refine_turns(row, p["initial"], p["feedback"]), answer))
        return examples

    def _teaches_feedback(self, row: Row) -> bool:
        phases = (META, EVOLVE) if self.options.keep_feedback else (META,)
        return row.payload.get("phase") in phases and not row.payload.get(balance.LEFT_OUT)

    def _trains_critic(self, row: Row) -> bool:
        """Tell whether a published row has its example of feedback, the second one."""
        return self._teaches_feedback(row) and 1 not in row.payload.get("too_long_examples", ())

    def publish_steps(self, round_: int, tokenizer: Any) -> dict[str, DatasetStep]:
        """Leave out questions whose first answers were all approved, with skip_solved; balance verdicts."""
        o, seed = self.options, self.recipe.seed
        steps: dict[str, DatasetStep] = {"skip_solved": solved.left_out} if o.skip_solved and round_ else {}
        if round_ and o.max_approving < 1:
            steps["balance_verdicts"] = balance.balanced(o.max_approving, seed, self._trains_critic)
        return steps

    def dedup_text(self, row: Row) -> str:
        """The refined answer; with the first one where the row teaches feedback on that."""
        keys = ("text", "initial") if self._teaches_feedback(row) else ("text",)
        return "\n".join(row.payload[key] for key in keys)

    def trained_texts(self, row: Row) -> list[str]:
        """The refined answer; where the row teaches feedback, also that and the first answer, which is in the
        prompts.
        """
        keys = ("text", "initial", "feedback") if self._teaches_feedback(row) else ("text",)
        return [row.payload[key] for key in keys]

    def pair_key(self, row: Row) -> str:
        """Both answers, as both are in the pair."""
        return f"{row.payload['text']}\n{row.payload['initial']}"

    def pairs(self, right: Sequence[Row], wrong: Sequence[Row]) -> Iterable[Pair]:
        """Pair a refined answer with its row's first one, if the critic rejected that; no ground truth is
        used.

        A first answer that the filters would refuse (truncated or looping) is no example of a wrong one.
        """
        for row in right:
            p = row.payload
            malformed = filters.refused(
                p["initial"], p["initial_tokens"], p["initial_finish_reason"], self.recipe.filters
            )
            if p["initial_verdict"] or malformed:
                continue
            verdict = {"correct": False, "by": p["verdict"]["by"]}
            first = Row(row.id, {**p, "model": p["initial_model"], "verdict": verdict}, row.parents)
            sampled = {"chosen": p["sampling"], "rejected": p["initial_sampling"]}
            chosen, rejected = [_assistant(p["text"])], [_assistant(p["initial"])]
            yield Pair(self.question(row), chosen, rejected, row, first, sampled)

    def refinement(self) -> Any:
        """What answering in three steps depends on, or None when evaluation does not refine."""
        if not self.options.refine_in_evaluation:
            return None
        feedback = self.options.sampling.feedback.model_dump(mode="json")
        return {"feedback": feedback, "verdict_words": list(self.options.verdict_words)}

    async def improve(self, row: Row, answer: Completion, llm: LLM, sampling: Sampling) -> Completion:
        """Refine an answer that the model itself rejects.

        One that it approves, or says nothing readable about, stays.
        """
        text = answer.text.strip()
        if not text:
            return answer
        limit = StepSampling(max_tokens=self.options.sampling.feedback.applied_to(llm.sampling).max_tokens)
        turns = self._critique_turns(row, text)
        [feedback] = await llm.chat(turns, step=FEEDBACK, sampling=limit.applied_to(sampling))
        if verdicts.read_verdict(feedback, self.options.verdict_words) is not False:
            return answer
        return await self._refinement(row, llm, text, feedback, sampling)

    def verified_by(self, round_: int) -> str:
        """Phase 1: the annotator, checked if it is the model itself. Phase 2: the model itself."""
        if round_ > self.options.meta_rounds:
            return "none but the model itself, which approved the refined answers"
        if self.options.annotator:
            return "the annotator"
        return f"{self.recipe.verifier}, of the first answer's verdict and of the refined answer"

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Say who wrote the meta-skill corpus, who decided what is in it, and what its verdicts are."""
        published = list(rows)
        annotators = sorted({row.payload.get("annotator", "") for row in published})
        verdicts = balance.note(published, self._trains_critic)
        return [*map(self.options.card_note, annotators), *([verdicts] if verdicts else [])]

    def pair_notes(self, round_: int) -> list[str]:
        """Say whose judgment the pairs rest on."""
        meta = round_ <= self.options.meta_rounds
        return [self.options.card_note(self.options.annotator_name() if meta else "")]


def _approved_at_first(row: Row) -> bool:
    return bool(row.payload["initial_verdict"])


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
