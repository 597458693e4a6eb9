"""ReGenesis: from general guidelines to concrete reasoning, all of it by the model itself (Peng et al. 2025, arXiv 2410.02108).

    guideline --adapt--> adapted guideline --structure--> reasoning structure --execute--> reasoning path
    25 seeds             to the question                  still no solution                ends with the answer

A question has one such chain per guideline, and every chain becomes one row, whatever becomes of it. critique drops the chains
whose guideline or structure solved the task already; filter and verify are the shared stages; publishing keeps at most
keep_per_question paths of a question. An example is question and path: guideline and structure are not in it.

Hints. A question without an accepted path may be tried again with its answer in the prompts (1.6 of the method; off by default,
for an answer that was given proves nothing). Whether a path is accepted shows in verify, but to generate is this stage's part: so,
with hints on, it asks of its own chains what critique, filter and verify will ask of them, with their functions and settings, and
goes on with hinted chains where none passes. That keeps a question's chains one row's work in one stage, which a killed run
resumes; and unhinted and hinted rows go through the same later stages together. Hinted rows say so up to the published example.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline import prompts
from pipeline.engines.base import Completion, Message, Sampling
from pipeline.errors import ConfigError, DataError, EngineError
from pipeline.ids import unit_interval
from pipeline.methods import Example, Method, Options, Stage
from pipeline.rows import Dropped, Kept, Outcome, Row
from pipeline.runner.llm import LLM, together
from stages import answers
from stages.methods.regenesis.guidelines import DEFAULT, REVISION, Guideline, read_guidelines
from stages.methods.regenesis.leaks import leak
from stages.steps import filters, verifiers
from stages.steps.samples import StepSampling, answer_fields

VERSION = 2
SOLVE = "direct/solve"  # asked in training and evaluation as `direct` asks it, so that both can be compared
SELECT = "regenesis/select"
ADAPT, STRUCTURE, EXECUTE = PLAIN = ("regenesis/adapt", "regenesis/structure", "regenesis/execute")
HINTED = ("regenesis/hinted_adapt", "regenesis/hinted_structure", "regenesis/hinted_execute")


class Steps(BaseModel):
    """The steps of a chain."""

    model_config = ConfigDict(extra="forbid")

    select: StepSampling = Field(default_factory=StepSampling)
    adapt: StepSampling = Field(default_factory=StepSampling)
    structure: StepSampling = Field(default_factory=StepSampling)
    execute: StepSampling = Field(default_factory=StepSampling)


class ReGenesisOptions(Options):
    """Options of `regenesis`."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"n_selected": 0, "use_raw": True},
        "released-code": {"n_selected": 20, "use_raw": True},
    }
    name: Literal["regenesis"] = "regenesis"
    preset: Literal["paper", "released-code"] = Field(
        "paper", description="paper: the raw guidelines; released-code: 20 selections as well"
    )
    guidelines: dict[int, Guideline] = Field(
        DEFAULT, validate_default=True, description="a file of guidelines; frozen with the run"
    )
    n_selected: int = Field(
        0,
        ge=0,
        description="selections of two or three guidelines that the model makes, each the start of a chain",
    )
    use_raw: bool = Field(True, description="each guideline by itself is the start of a chain")
    raw_per_question: int | None = Field(
        None, ge=1, description="a seeded draw of this many raw guidelines for each question; default: all"
    )
    sampling: Steps = Field(default_factory=Steps)
    keep_per_question: int = Field(
        5, ge=1, description="accepted paths kept per question and round (seeded choice)"
    )
    mark_answers: bool = Field(
        True,
        description='give a path whose answer stands in a box alone the line "Answer: ..." that the prompts ask for',
    )
    hinted_chains: int = Field(
        0,
        ge=0,
        description="chains that are told the answer, for questions without an accepted path; 0: none",
    )

    @field_validator("guidelines", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        try:
            return read_guidelines(value) if isinstance(value, str) else value
        except DataError as e:
            raise ValueError(str(e)) from None

    @model_validator(mode="after")
    def _possible(self) -> "ReGenesisOptions":
        if not self.guidelines:
            raise ValueError("guidelines: there are none")
        if not self.use_raw and not self.n_selected:
            raise ValueError("use_raw is false and n_selected is 0: there is nothing to start a chain from")
        if self.raw_per_question and not (self.use_raw and self.raw_per_question <= len(self.guidelines)):
            raise ValueError(
                f"raw_per_question is {self.raw_per_question}, of {len(self.guidelines) if self.use_raw else 0} raw guidelines"
            )
        return self


class Start(NamedTuple):
    """What a chain begins with. `label` ("raw:7") is its place in row ids, `number` tells equal prompts of a question apart.

    `refused` is why the engine did not take the request for a selection.
    """

    label: str
    number: int
    guideline: str
    type: str
    hint: str | None = None
    refused: str = ""


class ReGenesis(Method):
    """One row per chain, with all its texts."""

    name = "regenesis"
    Options = ReGenesisOptions

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        # A vote is for data without ground truth, so nothing may look at one where it decides.
        self._truth = recipe.verifier != "majority_vote"
        if self.options.hinted_chains and not (self._truth and recipe.tasks.columns.answer):
            raise ConfigError(
                "method.hinted_chains needs answers to hint at: a verifier other than majority_vote, and tasks.columns.answer."
            )

    def stages(self) -> dict[str, Stage]:
        """Make chains; drop those that gave the answer away; filter; verify."""
        o = self.options
        critique = {"mark_answers": o.mark_answers, "leak_check": self._truth}
        generate = o.model_dump(
            mode="json",
            include={"guidelines", "n_selected", "use_raw", "raw_per_question", "sampling", "hinted_chains"},
        )
        shared = {"filter": filters.stage(self.recipe), "verify": verifiers.stage(self.recipe)}
        if o.hinted_chains:  # then generate decides as these do
            generate |= {
                "critique": critique,
                **{name: [stage.version, stage.config] for name, stage in shared.items()},
            }
        select = (SELECT,) if o.n_selected or o.hinted_chains else ()
        asked = (
            *select,
            *PLAIN,
            *(HINTED if o.hinted_chains else ()),
            SOLVE,
        )  # SOLVE is not asked here; what is trained depends on it
        return {
            "generate": Stage(row=self.generate, prompts=asked, config=generate, version=VERSION),
            "critique": Stage(row=self.critique, config=critique, version=VERSION),
            **shared,
        }

    async def generate(self, row: Row, llm: LLM) -> Outcome:
        """One question in, one row per chain out. All chains of the question run at once."""
        chains = await self._chains(
            row, llm, [*await self._selections(row, llm, self.options.n_selected), *self._raw(row, llm)]
        )
        if chains and all(chain.payload["stopped"] == "request_refused" for chain in chains):
            raise EngineError(
                f"every chain of the question was refused, the first with: {chains[0].payload['problem']}"
            )
        answer = row.payload["answer"]
        if self.options.hinted_chains and answer is not None and not await self._any_accepted(chains):
            starts = await self._selections(row, llm, self.options.hinted_chains, answer, len(chains))
            chains += await self._chains(row, llm, starts)
        return Kept(chains)

    def _raw(self, row: Row, llm: LLM) -> list[Start]:
        """The guidelines as they are, or a draw of them that differs from question to question and from round to round."""
        o = self.options
        chosen = list(o.guidelines) if o.use_raw else []
        if o.raw_per_question:
            chosen = sorted(
                sorted(
                    chosen, key=lambda i: unit_interval(self.recipe.seed, "guidelines", llm.round, row.id, i)
                )[: o.raw_per_question]
            )
        return [
            Start(f"raw:{i}", o.n_selected + i, o.guidelines[i].text, o.guidelines[i].type) for i in chosen
        ]

    async def _selections(
        self, row: Row, llm: LLM, n: int, hint: str | None = None, first: int = 0
    ) -> list[Start]:
        """Let the model choose two or three guidelines, `n` times over. A hinted chain has no earlier solution to revise."""
        if not n:
            return []
        known = self.options.guidelines.values()
        offered = [g.text for g in known if hint is None or g.type != REVISION] or [g.text for g in known]
        sampling = self._sampling(llm, "select")
        try:
            chosen = [
                c.text.strip()
                for c in await llm.ask(
                    SELECT,
                    n=n,
                    sampling=sampling,
                    sample_index=first,
                    task=self._task(row),
                    guidelines=offered,
                )
            ]
            refused = ""
        except EngineError as e:  # as a rule the list of guidelines is too long for the model; the question's other chains need no selection
            if not e.refused:
                raise
            chosen, refused = [""] * n, str(e)
        label = "selected" if hint is None else "hinted"
        return [
            Start(f"{label}:{i}", first + i, text, "selected", hint, refused) for i, text in enumerate(chosen)
        ]

    async def _chains(self, row: Row, llm: LLM, starts: list[Start]) -> list[Row]:
        """Run chains side by side."""
        return await together(self._chain(row, llm, start) for start in starts)

    async def _chain(self, row: Row, llm: LLM, start: Start) -> Row:
        """guideline -> adapted guideline -> reasoning structure -> path. A chain that cannot go on ends where it is."""
        adapt, structure, execute = HINTED if start.hint is not None else PLAIN
        task, made = (
            self._task(row),
            {"adapted": "", "structure": "", "text": "", "stopped": "", "problem": ""},
        )
        if start.refused:
            return self._row(
                row, llm, start, {**made, "stopped": "request_refused", "problem": start.refused}
            )
        try:
            if not start.guideline:
                return self._row(row, llm, start, {**made, "stopped": "empty_guideline"})
            made["adapted"] = (
                await self._ask(llm, start, adapt, task=task, guideline=start.guideline)
            ).text.strip()
            if not made["adapted"]:
                return self._row(row, llm, start, {**made, "stopped": "empty_guideline"})
            made["structure"] = (
                await self._ask(llm, start, structure, task=task, guideline=made["adapted"])
            ).text.strip()
            if not made["structure"]:
                return self._row(row, llm, start, {**made, "stopped": "empty_structure"})
            path = await self._ask(
                llm,
                start,
                execute,
                task=task,
                options=row.payload.get("options"),
                structure=made["structure"],
            )
        except EngineError as e:
            if not e.refused:
                raise
            return self._row(row, llm, start, {**made, "stopped": "request_refused", "problem": str(e)})
        return self._row(row, llm, start, {**made, **answer_fields(path)})

    async def _ask(self, llm: LLM, start: Start, template: str, **variables: Any) -> Completion:
        """Ask once. The answer is among the variables of hinted templates only."""
        step = template.rsplit("/", 1)[1].removeprefix("hinted_")
        hint = {} if start.hint is None else {"answer": start.hint}
        return (
            await llm.ask(
                template, sampling=self._sampling(llm, step), sample_index=start.number, **variables, **hint
            )
        )[0]

    def _sampling(self, llm: LLM, step: str) -> Sampling:
        return getattr(self.options.sampling, step).over(llm.sampling)

    def _row(self, row: Row, llm: LLM, start: Start, made: dict[str, Any]) -> Row:
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

    async def critique(self, row: Row, llm: LLM) -> Outcome:
        """Drop a chain that ended early or gave the answer away; see that the path shows its answer as the prompts ask for it.

        Reasons: empty_guideline, empty_structure, request_refused, answer_leak_in_selection, _in_guideline, _in_structure.
        """
        problem = self._problem(row)
        if problem:
            return Dropped(*problem)
        return Kept(
            [
                row.child(
                    "critique",
                    0,
                    **self._marked(row.payload),
                    leak_check="passed" if self._checks(row.payload) else "off",
                )
            ]
        )

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
        return None

    def _checks(self, chain: dict[str, Any]) -> bool:
        """Tell whether leaks can be looked for: not without ground truth, nor where the answer was given."""
        return self._truth and chain["answer"] is not None and not chain["hinted"]

    def _marked(self, chain: dict[str, Any]) -> dict[str, str]:
        """Return {"text": path with its answer on a line}, or {} when there is nothing to add. The path itself is left as it is."""
        text = chain["text"]
        if not self.options.mark_answers or answers.on_a_line(text):
            return {}
        # A procedural task's own scorer reads answers as they are written: of "A=1, B=2" a number would be the 2 alone.
        kinds = ("text",) if self.recipe.verifier == "task_scorer" else (chain["answer_type"], "text")
        answer = next(
            (
                a
                for kind in kinds
                if (a := answers.extract(text, kind, chain.get("options")).answer) is not None
            ),
            None,
        )
        return {} if answer is None else {"text": f"{text}\n{answers.mark(answer)}"}

    async def _any_accepted(self, chains: list[Row]) -> bool:
        """Tell whether one of the chains will get through critique, filter and verify."""
        score = verifiers.scorer(self.recipe.verifier)
        for chain in chains:
            path = Row(chain.id, {**chain.payload, **self._marked(chain.payload)})
            if self._problem(chain) or filters.problem(path, self.recipe.filters):
                continue
            if (await asyncio.to_thread(score, path.payload)).correct:  # a scorer may compute for seconds
                return True
        return False

    def question(self, row: Row) -> list[Message]:
        """The chat that asks the row's question plainly: in training and evaluation, without guideline or structure."""
        return prompts.render(SOLVE, question=row.payload["question"], options=row.payload.get("options"))

    def question_prompts(self) -> tuple[str, ...]:
        """The template that `question` renders."""
        return (SOLVE,)

    def _task(self, row: Row) -> str:
        """The question with its options, as it is asked plainly."""
        return self.question(row)[-1]["content"]

    def examples(self, row: Row) -> list[Example]:
        """Question and path."""
        return [Example(self.question(row), [{"role": "assistant", "content": row.payload["text"]}])]

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Say how many examples are hinted, and how many chains could be checked for leaks."""
        checks = [row.payload["leak_check"] if not row.payload["hinted"] else "hinted" for row in rows]
        total, hinted, off = len(checks), checks.count("hinted"), checks.count("off")
        check = (
            "on"
            if not off
            else f"off for {off} of {total}: there is no ground truth to compare with, or majority_vote may not see it"
        )
        return [
            f"Hinted examples (the answer was shown while the path was made): {hinted} of {total}"
            + (f" ({hinted / total:.1%})" if total else ""),
            f"Check that guidelines and structures do not hold the answer: {check}",
        ]
