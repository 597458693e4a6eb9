"""ReGenesis: from general guidelines to concrete reasoning, written by the model itself (Peng et al. 2025,
arXiv 2410.02108).

    guideline --adapt--> adapted guideline --structure--> reasoning structure --execute--> reasoning path
    25 seeds             to the question                  no solution yet                  with the answer

A question has one such chain per guideline, and every chain becomes one row, wherever it ends. critique drops
chains whose guideline or structure already contains the answer (leaks.py); filter and verify are the shared
stages; publishing keeps at most keep_per_question paths per question. An example is question and path,
without guideline and structure.

Hints. A question without an accepted path can be retried with its answer in the prompts (off by default,
since an answer that was given proves nothing). Whether a path is accepted shows in verify, but generating is
this stage's part: with hints on, generate applies critique, filter and verify to its own chains, with their
functions and settings, and adds hinted chains where none passes. That keeps a question's chains one row's
work in one stage, which a killed run resumes. Hinted rows are marked up to the published example.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from pipeline.engines.base import Completion, Message, Sampling
from pipeline.errors import ConfigError, EngineError
from pipeline.ids import unit_interval
from pipeline.methods import Example, Method, Stage
from pipeline.protocols import Work
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.rundir import RoundKey
from pipeline.runner.llm import LLM, together
from pipeline.stage import DatasetStep
from stages import answers
from stages.methods.regenesis import plan
from stages.methods.regenesis.guidelines import REVISION
from stages.methods.regenesis.leaks import leak
from stages.methods.regenesis.options import ReGenesisOptions
from stages.steps import filters, solved, verifiers
from stages.steps.asking import SOLVE, TASK, as_text, ask, mark_asked_for, statement
from stages.steps.dedup import question_of
from stages.steps.mentions import What, mention, without_lead_in
from stages.steps.samples import answer_fields

VERSION = 3
SELECT = "regenesis/select"
ADAPT, STRUCTURE, EXECUTE = PLAIN = ("regenesis/adapt", "regenesis/structure", "regenesis/execute")
HINTED = ("regenesis/hinted_adapt", "regenesis/hinted_structure", "regenesis/hinted_execute")
REFUSED = "request_refused"


class Start(NamedTuple):
    """What a chain starts from. `label` ("raw:7") is its place in row ids; `number` tells a question's equal
    prompts apart.

    `stopped` is why the chain ends before it starts, with the `problem` in words: its selection is unusable.
    """

    label: str
    number: int
    guideline: str
    type: str
    hint: str | None = None
    stopped: str = ""
    problem: str = ""


class ReGenesis(Method):
    """One row per chain, with all its texts."""

    name = "regenesis"
    Options = ReGenesisOptions
    options: ReGenesisOptions
    question_prompts = (SOLVE,)

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        # A vote is for data without ground truth: where it decides, nothing may look at one.
        self._truth = recipe.verifier != "majority_vote"
        mark = self.options.mark_answers
        self._marks = mark_asked_for(self.prompts) == "line" if mark is None else mark
        if self.options.hinted_chains and not (self._truth and recipe.tasks.columns.answer):
            raise ConfigError(
                "method.hinted_chains needs answers to hint at: a verifier other than majority_vote, and "
                "tasks.columns.answer."
            )
        if self.options.hinted_chains and not isinstance(recipe.verifier, str):
            raise ConfigError(
                "method.hinted_chains retries questions without an accepted chain, and generate cannot ask "
                "the model that verifies: set it to 0, or verifier to a function, such as ground_truth."
            )

    def stages(self) -> dict[str, Stage]:
        """Make chains; drop those that give the answer away; filter; verify."""
        o = self.options
        critique = {"mark_answers": self._marks, "leak_check": self._truth}
        names = {"guidelines", "n_selected", "use_raw", "raw_per_question", "sampling", "hinted_chains"}
        generate = o.model_dump(mode="json", include=names)
        shared = {"filter": filters.stage(self.recipe), "verify": verifiers.stage(self.recipe)}
        if o.hinted_chains:  # then generate decides as these do
            generate |= {"critique": critique, **{name: [s.version, s.config] for name, s in shared.items()}}
        select = (SELECT,) if o.n_selected or o.hinted_chains else ()
        asked = (*select, *PLAIN, *(HINTED if o.hinted_chains else ()), SOLVE, TASK)
        stages = {
            "generate": Stage(row=self.generate, prompts=asked, config=generate, version=VERSION),
            "critique": Stage(row=self.critique, config=critique, version=VERSION),
            **shared,
        }
        return solved.skipping(stages, lambda row: not row.payload["hinted"]) if o.skip_solved else stages

    def work(self, stage: str, round_: RoundKey) -> Work | None:
        """What a row of a stage asks of the model."""
        return plan.work(self.options, self.recipe.sampling.max_tokens, stage)

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """One question in, one row per chain out. All chains of the question run concurrently."""
        starts = [*await self._selections(row, llm, self.options.n_selected), *self._raw(row, llm)]
        chains = await self._chains(row, llm, starts)
        if chains and all(chain.payload["stopped"] == REFUSED for chain in chains):
            raise EngineError(
                f"every chain of the question was refused, the first with: {chains[0].payload['problem']}"
            )
        if self.options.skip_solved:
            chains = solved.counted(chains, sum(not self._problem(chain) for chain in chains))
        answer, hinted = row.payload["answer"], self.options.hinted_chains
        if hinted and answer is not None and not await self._any_accepted(chains):
            starts = await self._selections(row, llm, hinted, answer, len(chains))
            chains += await self._chains(row, llm, starts)
        return Kept(chains)

    def _raw(self, row: Row, llm: LLM) -> list[Start]:
        """Start from the guidelines themselves, or from a draw that differs by question and round."""
        o, seed = self.options, self.recipe.seed
        chosen = list(o.guidelines) if o.use_raw else []
        if o.raw_per_question:
            chosen.sort(key=lambda i: unit_interval(seed, "guidelines", llm.round, row.id, i))
            chosen = sorted(chosen[: o.raw_per_question])
        return [
            Start(f"raw:{i}", o.n_selected + i, o.guidelines[i].text, o.guidelines[i].type) for i in chosen
        ]

    async def _selections(
        self, row: Row, llm: LLM, n: int, hint: str | None = None, first: int = 0
    ) -> list[Start]:
        """Let the model choose two or three guidelines, `n` times.

        A hinted chain has no earlier solution to revise.
        """
        if not n:
            return []
        known = self.options.guidelines.values()
        offered = [g.text for g in known if hint is None or g.type != REVISION] or [g.text for g in known]
        sampling, task = self._sampling(llm, "select"), self._task(row)
        try:
            replies = await llm.ask(
                SELECT, n=n, sampling=sampling, sample_index=first, task=task, guidelines=offered
            )
            chosen = [(reply.text.strip(), *_unusable("guideline", reply, SELECT)) for reply in replies]
        except EngineError as e:  # usually the list is too long for the model; other chains need none
            if not e.refused:
                raise
            chosen = [("", REFUSED, str(e))] * n
        label = "selected" if hint is None else "hinted"
        return [
            Start(f"{label}:{i}", first + i, text, "selected", hint, *stopped)
            for i, (text, *stopped) in enumerate(chosen)
        ]

    async def _chains(self, row: Row, llm: LLM, starts: list[Start]) -> list[Row]:
        return await together(self._chain(row, llm, start) for start in starts)

    async def _chain(self, row: Row, llm: LLM, start: Start) -> Row:
        """guideline -> adapted guideline -> reasoning structure -> path; `stopped` is why a chain ended
        early.
        """
        made: dict[str, Any] = {"adapted": "", "structure": "", "text": "", "stopped": "", "problem": ""}
        try:
            await self._steps(row, llm, start, made)
        except EngineError as e:
            if not e.refused:
                raise
            made |= {"stopped": REFUSED, "problem": str(e)}
        return row.child(
            "generate",
            f"{llm.round}/{start.label}",
            chain=start.label,
            guideline=start.guideline,
            guideline_type=start.type,
            **made,
            hinted=start.hint is not None,
            model=llm.model,
            sampling=self._sampling(llm, "execute").as_json,
        )

    async def _steps(self, row: Row, llm: LLM, start: Start, made: dict[str, Any]) -> None:
        """Fill `made` step by step, with why the chain stopped if it did not reach its path."""
        adapt, structure, execute = PLAIN if start.hint is None else HINTED
        task = self._task(row)
        made |= {"stopped": start.stopped, "problem": start.problem}
        if start.stopped:
            return
        given = start.guideline
        for key, what, template in (("adapted", "guideline", adapt), ("structure", "structure", structure)):
            reply = await self._ask(llm, start, template, task=task, guideline=given)
            made[key] = given = reply.text.strip()
            made["stopped"], made["problem"] = _unusable(what, reply, template)
            if made["stopped"]:
                return
        task, options = (
            as_text(self.question(row)),
            row.payload.get("options"),
        )  # the path ends as asked there
        made |= answer_fields(
            await self._ask(llm, start, execute, task=task, options=options, structure=given)
        )
        for what in _shown(start.hint is not None):
            made["text"] = without_lead_in(what, made["text"], question_of(row))

    async def _ask(self, llm: LLM, start: Start, template: str, **variables: Any) -> Completion:
        """Ask once. The answer is among the variables of hinted templates only."""
        hint: dict[str, Any] = {} if start.hint is None else {"answer": start.hint}
        sampling = self._sampling(llm, _step(template))
        return (await llm.ask(template, sampling=sampling, sample_index=start.number, **variables, **hint))[0]

    def _sampling(self, llm: LLM, step: str) -> Sampling:
        return getattr(self.options.sampling, step).applied_to(llm.sampling)

    async def critique(self, row: Row, llm: LLM) -> Outcome:
        """Drop chains that ended early, gave the answer away, or whose path refers to plan or hint; mark the
        path's answer as the question asks.

        Reasons: empty_guideline, guideline_cut_off, empty_structure, structure_cut_off, request_refused,
        answer_leak_in_selection, _in_guideline, _in_structure, mentions_plan, mentions_hint.
        """
        if problem := self._problem(row):
            return Dropped(*problem)
        check = "passed" if self._checks(row.payload) else "off"
        return Kept([row.child("critique", 0, **self._marked(row.payload), leak_check=check)])

    def _problem(self, row: Row) -> tuple[str, str, str] | None:
        chain = row.payload
        if chain["stopped"]:
            return chain["stopped"], chain["problem"], chain["structure"] or chain["adapted"]
        texts = {"guideline": chain["adapted"], "structure": chain["structure"]}
        if chain["guideline_type"] == "selected":
            texts = {"selection": chain["guideline"], **texts}
        for name, text in texts.items() if self._checks(chain) else ():
            if how := leak(text, chain):
                return f"answer_leak_in_{name}", f"{how}: {chain['answer']!r}", text
        for what in _shown(chain["hinted"]):
            if phrase := mention(what, chain["text"], question_of(row)):
                return f"mentions_{what}", f"the path does not stand alone: {phrase!r}", chain["text"]
        return None

    def _checks(self, chain: dict[str, Any]) -> bool:
        """Leaks can be looked for: there is ground truth, and the chain was not given it."""
        return self._truth and chain["answer"] is not None and not chain["hinted"]

    def _marked(self, chain: dict[str, Any]) -> dict[str, str]:
        """Return {"text": the path plus a line with its answer}, or {} when there is nothing to add."""
        text, words = chain["text"], chain.get("answer_marks") or ()
        if not self._marks or answers.on_a_line(text, words):
            return {}
        # A task's own scorer reads answers as they are written: as a number, "A=1, B=2" would be 2.
        kinds = ("text",) if self.recipe.verifier == "task_scorer" else (chain["answer_type"], "text")
        read = (verifiers.read_answer(chain, kind).answer for kind in kinds)
        answer = next((a for a in read if a is not None), None)
        return {} if answer is None else {"text": f"{text}\n{answers.mark(answer, words)}"}

    async def _any_accepted(self, chains: list[Row]) -> bool:
        """Tell whether one of the chains will pass critique, filter and verify."""
        score = verifiers.scorer(self.recipe.verifier)
        for chain in chains:
            path = Row(chain.id, {**chain.payload, **self._marked(chain.payload)})
            if self._problem(chain) or filters.problem(path, self.recipe.filters):
                continue
            if (await asyncio.to_thread(score, path.payload)).correct:  # a scorer may compute for seconds
                return True
        return False

    def question(self, row: Row) -> list[Message]:
        """The chat that asks the question plainly, without guideline or structure."""
        return ask(self.prompts, row.payload)

    def _task(self, row: Row) -> str:
        """The question with its options."""
        return statement(self.prompts, row.payload)

    def publish_steps(self, round_: int, tokenizer: Any) -> dict[str, DatasetStep]:
        """Leave out solved questions, with skip_solved."""
        return {"skip_solved": solved.left_out} if self.options.skip_solved and round_ else {}

    def examples(self, row: Row) -> list[Example]:
        """Question and path."""
        return [Example(self.question(row), [{"role": "assistant", "content": row.payload["text"]}])]

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Count the hinted examples, and the chains that could not be checked for leaks."""
        checks = ["hinted" if row.payload["hinted"] else row.payload["leak_check"] for row in rows]
        total, hinted, off = len(checks), checks.count("hinted"), checks.count("off")
        check = (
            "on" if not off else f"off for {off} of {total}: no ground truth, or majority_vote may not see it"
        )
        share = f" ({hinted / total:.1%})" if total else ""
        return [
            f"Hinted examples (the answer was shown while the path was written): {hinted} of {total}{share}",
            f"Check that guidelines and structures do not contain the answer: {check}",
        ]


def _shown(hinted: bool) -> tuple[What, ...]:
    """Return what a path's prompt shows beside the question."""
    return ("plan", "hint") if hinted else ("plan",)


def _step(template: str) -> str:
    return template.rsplit("/", 1)[1].removeprefix("hinted_")


def _unusable(what: str, reply: Completion, template: str) -> tuple[str, str]:
    """Return why no chain continues with `reply`, and the problem in words: it is blank or was cut off.

    ("", "") if it can be used.
    """
    if not reply.text.strip():
        return f"empty_{what}", ""
    if reply.finish_reason not in filters.CUT_SHORT:
        return "", ""
    setting = f"method.sampling.{_step(template)}.max_tokens"
    return (
        f"{what}_cut_off",
        f"ended by {reply.finish_reason} after {reply.completion_tokens} tokens: raise {setting}",
    )
